/** The clocks of a near cache. */
export interface Clocks {
  /** Milliseconds that never go back, as of `performance.now()`. */
  readonly monotonicMs: () => number;

  /** Milliseconds since the Unix epoch, as of `Date.now()`. May be wrong and may jump. */
  readonly wallMs: () => number;
}

/**
 * How much faster than ours the server's clock may run: twice what NTP corrects at most (500 ppm). A
 * wrong clock shortens the life of what is cached, and never makes it longer.
 */
const MAX_DRIFT = 0.001;

/** How old a measurement of the server's clock may get. By then it is wrong by 300 ms at most. */
const RENEW_MS = 5 * 60_000;

/** How often we look whether the machine slept, of which the monotonic clock may know nothing. */
const WALL_CHECK_MS = 100;

/** The wall clock may run ahead of the monotonic clock by that much. */
const WALL_TOLERANCE_MS = 250;

/**
 * What a checkpoint says. `late`: it took too long. `due`: the clock should be measured again.
 * `ahead`: it is from the future, so the server's clock has jumped. `moved`: the clock has jumped
 * since the measurement before this one.
 */
export type CheckpointNews = "fine" | "late" | "due" | "ahead" | "moved";

/** Our time minus the server's time lies between these bounds. */
interface Offset {
  readonly leastMs: number;
  readonly mostMs: number;
  /** When it was measured, by our clock. */
  readonly nowMs: number;
}

/**
 * Knows until when the state of a near cache is young enough, by the times of checkpoints.
 *
 * A checkpoint may have waited on its way, so the time of its arrival says nothing about its age.
 * Its own time is by the server's clock, which may be an hour apart from ours. The beginning of a
 * stream tells the difference: the first checkpoint was made after we asked for the stream, so
 * `asked - time` is the least that our clock can be ahead. With it, every checkpoint is at least as
 * young as we think.
 */
export class Freshness {
  readonly #maxStaleMs: number;
  readonly #clocks: Clocks;
  #askedMs: number | undefined;
  #offset: Offset | undefined;
  #serverMs = Number.NEGATIVE_INFINITY;
  /** The earliest time at which the last checkpoint may have been made, by our monotonic clock. */
  #madeMs = Number.NEGATIVE_INFINITY;
  #freshUntilMs = Number.NEGATIVE_INFINITY;
  /** We need not look at the wall clock before. */
  #usableUntilMs = Number.NEGATIVE_INFINITY;
  /** Both clocks when the last checkpoint came. */
  #arrival = { nowMs: 0, wallMs: 0 };

  constructor(maxStaleMs: number, clocks: Clocks) {
    this.#maxStaleMs = maxStaleMs;
    this.#clocks = clocks;
  }

  /** Whether the last checkpoint is younger than `maxStaleMs`. On the path of every hit. */
  isFresh(nowMs: number): boolean {
    return nowMs < this.#usableUntilMs || this.#isAwake(nowMs);
  }

  /** The greatest age that the last checkpoint may have. Undefined if there is none. */
  ageMs(): number | undefined {
    const ageMs = this.#clocks.monotonicMs() - this.#madeMs;
    return ageMs === Number.POSITIVE_INFINITY ? undefined : ageMs;
  }

  /** A stream is about to be asked for. Its first checkpoint will measure the server's clock. */
  streamOpens(): void {
    this.#askedMs = this.#clocks.monotonicMs();
  }

  /** What was known is worthless. */
  forget(): void {
    this.#askedMs = undefined;
    this.#offset = undefined;
    this.#serverMs = Number.NEGATIVE_INFINITY;
    this.#madeMs = Number.NEGATIVE_INFINITY;
    this.#freshUntilMs = Number.NEGATIVE_INFINITY;
    this.#usableUntilMs = Number.NEGATIVE_INFINITY;
  }

  /** Takes the time of a checkpoint. */
  checkpoint(serverMs: number): CheckpointNews {
    const nowMs = this.#clocks.monotonicMs();
    const hasMoved = this.#askedMs !== undefined && this.#measure(this.#askedMs, serverMs, nowMs);
    const offset = this.#offset;
    if (offset === undefined) return "due";
    const driftMs = (nowMs - offset.nowMs) * MAX_DRIFT;
    const madeMs = serverMs + offset.leastMs - driftMs;
    if (madeMs > nowMs) {
      this.forget();
      return "ahead";
    }
    this.#serverMs = serverMs;
    this.#madeMs = madeMs;
    this.#freshUntilMs = madeMs + this.#maxStaleMs;
    this.#usableUntilMs = Number.NEGATIVE_INFINITY;
    this.#arrival = { nowMs, wallMs: this.#clocks.wallMs() };
    if (hasMoved) return "moved";
    if (nowMs - madeMs > this.#maxStaleMs / 2) return "late";
    return nowMs - offset.nowMs >= RENEW_MS ? "due" : "fine";
  }

  /** When the server's clock reaches a time, by our monotonic clock, or somewhat earlier. */
  localMs(serverMs: number, nowMs: number): number {
    if (this.#offset === undefined) return Number.NEGATIVE_INFINITY;
    const serverNowMs = nowMs - this.#offset.leastMs;
    return nowMs + (serverMs - serverNowMs) * (1 - MAX_DRIFT);
  }

  /** The time of the last checkpoint, which the server's clock has certainly reached. */
  get serverReachedMs(): number {
    return this.#serverMs;
  }

  /** Measures the offset by the first checkpoint of a stream. Answers whether the old one is wrong. */
  #measure(askedMs: number, serverMs: number, nowMs: number): boolean {
    const old = this.#offset;
    const offset = { leastMs: askedMs - serverMs, mostMs: nowMs - serverMs, nowMs };
    this.#askedMs = undefined;
    this.#offset = offset;
    if (old === undefined) return false;
    const driftMs = (nowMs - old.nowMs) * MAX_DRIFT;
    return offset.leastMs > old.mostMs + driftMs || offset.mostMs < old.leastMs - driftMs;
  }

  /**
   * Whether the last checkpoint is young, and the machine was awake since it came: on Linux the
   * monotonic clock stands still while the machine is suspended.
   */
  #isAwake(nowMs: number): boolean {
    if (nowMs >= this.#freshUntilMs) return false;
    const wallMs = this.#clocks.wallMs() - this.#arrival.wallMs;
    if (wallMs > nowMs - this.#arrival.nowMs + WALL_TOLERANCE_MS) return false;
    this.#usableUntilMs = Math.min(this.#freshUntilMs, nowMs + WALL_CHECK_MS);
    return true;
  }
}
