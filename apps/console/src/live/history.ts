import type { SessionEvent } from "@sessiond/proto/sessiond/v1/session_service";
import { SessionEventType } from "@sessiond/proto/sessiond/v1/session_service";
import { type Calls, explain } from "../access/calls.js";
import { Store } from "../store.js";
import type { SessionWatch, WatchListener } from "./session-watch.js";

/** The newest events are kept. */
const MAX_EVENTS = 1_000;
const SAMPLE_MS = 5_000;
/** An hour of samples. */
const MAX_SAMPLES = 720;

/** How many sessions there were at a time, and what happened since the sample before. */
export interface Sample {
  readonly timeMs: number;
  readonly active: number;
  readonly created: number;
  readonly ended: number;
}

/** The counts since the page was opened. The server keeps none. */
export interface Counts {
  /** The oldest first. */
  readonly samples: readonly Sample[];
  readonly problem: string | undefined;
}

/** What has happened since the page was opened. */
export class History implements WatchListener {
  /** The newest first. */
  readonly events = new Store<readonly SessionEvent[]>([]);
  readonly counts = new Store<Counts>({ samples: [], problem: undefined });
  readonly #calls: Calls;
  readonly #unsubscribe: () => void;
  readonly #timer: ReturnType<typeof setInterval>;
  #created = 0;
  #ended = 0;

  constructor(calls: Calls, watch: SessionWatch) {
    this.#calls = calls;
    this.#unsubscribe = watch.subscribe(this);
    this.#timer = setInterval(() => void this.#sample(), SAMPLE_MS);
    void this.#sample();
  }

  close(): void {
    this.#unsubscribe();
    clearInterval(this.#timer);
  }

  onStart(): void {}

  onEvents(events: readonly SessionEvent[]): void {
    for (const { type } of events) {
      if (type === SessionEventType.CREATED) this.#created++;
      if (type === SessionEventType.REVOKED || type === SessionEventType.EVICTED) this.#ended++;
    }
    this.events.value = [...events.toReversed(), ...this.events.value].slice(0, MAX_EVENTS);
  }

  async #sample(): Promise<void> {
    try {
      const { count: active } = await this.#calls.sessions.countSessions({});
      const sample = { timeMs: Date.now(), active, created: this.#created, ended: this.#ended };
      this.#created = 0;
      this.#ended = 0;
      const samples = [...this.counts.value.samples, sample].slice(-MAX_SAMPLES);
      this.counts.value = { samples, problem: undefined };
    } catch (error) {
      this.counts.value = { ...this.counts.value, problem: explain(error) };
    }
  }
}
