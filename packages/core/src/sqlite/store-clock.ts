/** A clock of a store, in ms since the Unix epoch, whole. */
export interface Clock {
  now(): number;
  /** Makes `now` answer at least this time from now on. */
  advanceTo(timeMs: number): void;
}

/** The rate of a clock that is ahead, so that a right wall clock catches up with it. */
const RATE_WHEN_AHEAD = 0.95;

/**
 * The wall clock, but never backwards: once the wall clock was set back, time goes on by the
 * monotonic clock, a twentieth slower. So a lease is never shorter than promised, and longer by a
 * twentieth at most. `docs/adr/0016-time-in-sqlite-never-runs-backwards.md` says why.
 */
export class StoreClock implements Clock {
  readonly #wall: () => number;
  readonly #monotonic: () => number;
  #timeMs: number;
  /** The monotonic clock at the time of `#timeMs`. */
  #asOfMs: number;

  constructor(wall: () => number = () => Date.now(), monotonic = () => performance.now()) {
    this.#wall = wall;
    this.#monotonic = monotonic;
    this.#timeMs = wall();
    this.#asOfMs = monotonic();
  }

  now(): number {
    const wallMs = this.#wall();
    const asOfMs = this.#monotonic();
    const passedMs = asOfMs - this.#asOfMs;
    // From the wall clock's jump on. Before it, both clocks say the same.
    this.#timeMs = Math.max(wallMs, this.#timeMs + passedMs * RATE_WHEN_AHEAD);
    this.#asOfMs = asOfMs;
    return Math.floor(this.#timeMs);
  }

  advanceTo(timeMs: number): void {
    this.#timeMs = Math.max(this.#timeMs, timeMs);
  }
}
