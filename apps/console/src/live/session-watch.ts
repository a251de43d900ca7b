import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { SessionEvent } from "@sessiond/proto/sessiond/v1/session_service";
import { type Calls, describe } from "../access/calls.js";
import { Store } from "../store.js";

/** The server sends something at least every second. */
const STALE_AFTER_MS = 2_500;
/** A connection may be dead without a word. */
const GIVE_UP_AFTER_MS = 6_000;
const MIN_RETRY_MS = 250;
const MAX_RETRY_MS = 5_000;

/** Whether what is on the screen is what the server has. */
export interface WatchState {
  readonly kind: "connecting" | "live" | "stale";
  /** When the server was last heard, by the clock of this machine. */
  readonly heardMs: number | undefined;
  /** Why the stream has ended. */
  readonly problem?: string | undefined;
}

/** Who wants to know of changes. */
export interface WatchListener {
  /** Never empty; in order for each session. */
  onEvents(events: readonly SessionEvent[]): void;
  /** From now on no change is missed. Before that any may have been: read everything again. */
  onStart(): void;
}

/** One stream of all changes that the operator may see, for the whole page. */
export class SessionWatch {
  readonly state = new Store<WatchState>({ kind: "connecting", heardMs: undefined });
  /** How far the server's clock is ahead of this machine's. */
  clockOffsetMs = 0;
  readonly #calls: Calls;
  readonly #listeners = new Set<WatchListener>();
  readonly #closing = new AbortController();
  readonly #timer: ReturnType<typeof setInterval>;
  #attempt = new AbortController();
  #attemptMs = 0;
  #resumeToken = "";
  #hasStarted = false;

  constructor(calls: Calls) {
    this.#calls = calls;
    this.#timer = setInterval(() => this.#look(), STALE_AFTER_MS / 5);
    void this.#run();
  }

  /** Answers a function that ends it. */
  subscribe(listener: WatchListener): () => void {
    this.#listeners.add(listener);
    if (this.#hasStarted) listener.onStart();
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#closing.abort();
    this.#attempt.abort();
    this.#goStale("Log in again.");
  }

  async #run(): Promise<void> {
    let retryMs = MIN_RETRY_MS;
    while (!this.#closing.signal.aborted) {
      const before = this.#resumeToken;
      const problem = await this.#watchOnce();
      if (this.#closing.signal.aborted) return;
      this.#goStale(`${problem} Reconnecting…`);
      retryMs = this.#resumeToken === before ? Math.min(2 * retryMs, MAX_RETRY_MS) : MIN_RETRY_MS;
      await new Promise((resolve) => setTimeout(resolve, retryMs));
    }
  }

  /** Answers why the stream has ended. */
  async #watchOnce(): Promise<string> {
    this.#attempt = new AbortController();
    this.#attemptMs = Date.now();
    const request = { resumeToken: this.#resumeToken };
    try {
      const options = { signal: this.#attempt.signal, timeoutMs: 0 };
      for await (const response of this.#calls.sessions.watchSessions(request, options)) {
        const { message } = response;
        this.#resumeToken = response.resumeToken;
        this.state.value = { kind: "live", heardMs: Date.now() };
        if (message.case === "checkpoint" && message.value.time !== undefined) {
          this.clockOffsetMs = timestampMs(message.value.time) - Date.now();
        }
        if (!this.#hasStarted || message.case === "reset") this.#start();
        if (message.case === "events") {
          for (const listener of this.#listeners) listener.onEvents(message.value.events);
        }
      }
      return "The stream has ended.";
    } catch (error) {
      return describe(error);
    }
  }

  #goStale(problem: string): void {
    this.state.value = { ...this.state.value, kind: "stale", problem };
  }

  #start(): void {
    this.#hasStarted = true;
    for (const listener of this.#listeners) listener.onStart();
  }

  #look(): void {
    const { value } = this.state;
    const heardMs = Math.max(value.heardMs ?? 0, this.#attemptMs);
    const silentMs = Date.now() - heardMs;
    if (silentMs > STALE_AFTER_MS && value.kind !== "stale") {
      this.#goStale("The server is silent.");
    }
    if (silentMs > GIVE_UP_AFTER_MS) this.#attempt.abort();
  }
}
