import { Code, ConnectError } from "@connectrpc/connect";
import type { Deadlines, Perishable } from "./deadlines.js";
import type { UnaryMethod } from "./methods.js";

/**
 * The most calls in a batch. The server permits 1000. A tenth costs a call hardly more, and its
 * first call does not have to wait for the last of a thousand.
 */
const MAX_BATCH = 100;

/** One attempt of one call. */
export interface Attempt {
  readonly method: UnaryMethod;
  readonly request: object;
  readonly header: Readonly<Record<string, string>> & { readonly authorization: string };
  /** On the clock of `performance.now()`. */
  readonly deadlineMs: number;
  /** The caller's. */
  readonly signal: AbortSignal | undefined;
}

/** All calls of a batch about one key. */
export interface Entry {
  readonly key: string;
  readonly calls: readonly WaitingCall[];
}

/** Calls that travel together. One entry among the deadlines is enough for all of them. */
export class Batch implements Perishable {
  /** When the first of its calls ends at the latest, of those that are watched. */
  deadlineMs = Number.POSITIVE_INFINITY;
  /** When the last one does. */
  lastDeadlineMs = Number.NEGATIVE_INFINITY;
  readonly #deadlines: Deadlines;
  #calls = new Map<string, WaitingCall[]>();
  #isWatched = false;
  #onAbandoned: (() => void) | undefined;

  constructor(deadlines: Deadlines) {
    this.#deadlines = deadlines;
  }

  get isFull(): boolean {
    return this.#calls.size >= MAX_BATCH;
  }

  /** Whether a call still waits for its answer. */
  get isOpen(): boolean {
    for (const calls of this.#calls.values()) if (calls.some(({ isOpen }) => isOpen)) return true;
    return false;
  }

  add(key: string, call: WaitingCall): void {
    const others = this.#calls.get(key);
    if (others === undefined) this.#calls.set(key, [call]);
    else others.push(call);
    this.lastDeadlineMs = Math.max(this.lastDeadlineMs, call.deadlineMs);
    if (this.#isWatched) this.#watch(call);
  }

  /** The calls that wait for an answer, by what they ask about. */
  openEntries(): Entry[] {
    const entries: Entry[] = [];
    for (const [key, all] of this.#calls) {
      const calls = all.every(({ isOpen }) => isOpen) ? all : all.filter(({ isOpen }) => isOpen);
      if (calls.length > 0) entries.push({ key, calls });
    }
    return entries;
  }

  /** Ends its calls at their deadlines and by their signals. A call alone leaves that to the transport. */
  watch(): void {
    if (this.#isWatched) return;
    this.#isWatched = true;
    for (const calls of this.#calls.values()) for (const call of calls) this.#watch(call);
  }

  /** Calls the listener when the last call has ended before its answer. */
  whenAbandoned(listener: () => void): void {
    this.#onAbandoned = listener;
  }

  expire(): void {
    const nowMs = performance.now();
    this.deadlineMs = Number.POSITIVE_INFINITY;
    for (const calls of this.#calls.values()) {
      for (const call of calls) {
        if (!call.isOpen) continue;
        if (call.deadlineMs <= nowMs) call.expire();
        else this.deadlineMs = Math.min(this.deadlineMs, call.deadlineMs);
      }
    }
    if (this.deadlineMs < Number.POSITIVE_INFINITY) this.#deadlines.add(this);
  }

  /** All its calls have ended, or will by themselves. */
  end(): void {
    this.#deadlines.delete(this);
    this.#calls = new Map();
  }

  #watch(call: WaitingCall): void {
    if (!call.isOpen) return;
    call.watch(() => {
      if (!this.isOpen) this.#onAbandoned?.();
    });
    if (call.deadlineMs >= this.deadlineMs) return;
    this.deadlineMs = call.deadlineMs;
    this.#deadlines.add(this);
  }
}

/** A call that waits for an answer together with others. */
export class WaitingCall implements EventListenerObject {
  readonly attempt: Attempt;
  isOpen = true;
  readonly #resolve: (answer: unknown) => void;
  readonly #reject: (error: unknown) => void;
  #onEndEarly: (() => void) | undefined;

  constructor(
    attempt: Attempt,
    resolve: (answer: unknown) => void,
    reject: (error: unknown) => void,
  ) {
    this.attempt = attempt;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  get deadlineMs(): number {
    return this.attempt.deadlineMs;
  }

  /** Ends the call by its signal. Calls the listener when it ends before its answer. */
  watch(onEndEarly: () => void): void {
    this.#onEndEarly = onEndEarly;
    const { signal } = this.attempt;
    if (signal?.aborted) this.handleEvent();
    else signal?.addEventListener("abort", this);
  }

  expire(): void {
    this.#endEarly(new ConnectError("the operation timed out", Code.DeadlineExceeded));
  }

  resolve(answer: unknown): void {
    this.#end();
    this.#resolve(answer);
  }

  reject(error: unknown): void {
    this.#end();
    this.#reject(error);
  }

  /** The caller's signal has aborted. */
  handleEvent(): void {
    this.#endEarly(ConnectError.from(this.attempt.signal?.reason, Code.Canceled));
  }

  #endEarly(error: ConnectError): void {
    if (!this.isOpen) return;
    this.reject(error);
    this.#onEndEarly?.();
  }

  #end(): void {
    this.isOpen = false;
    if (this.#onEndEarly !== undefined) this.attempt.signal?.removeEventListener("abort", this);
  }
}
