/**
 * A clock that stands still until a test moves it.
 *
 * It starts at the real time and never goes back before that: what a store
 * leaves to real time (Redis TTLs) must not run ahead of what it decides by
 * this clock.
 */
export class FakeClock {
  readonly #startMs = Date.now();
  #nowMs = this.#startMs;

  /** The time, in milliseconds since the Unix epoch. Bound, to be handed around. */
  readonly now = (): number => this.#nowMs;

  /** Lets `ms` pass. */
  advance(ms: number): void {
    this.advanceTo(this.#nowMs + ms);
  }

  /** Lets time pass until `timeMs`, which is not in the past. */
  advanceTo(timeMs: number): void {
    if (timeMs < this.#nowMs) throw new RangeError("time only passes forward");
    this.#nowMs = timeMs;
  }

  /** Sets the clock back, as an operator or NTP might. */
  stepBack(ms: number): void {
    if (this.#nowMs - ms < this.#startMs) throw new RangeError("not before the clock's start");
    this.#nowMs -= ms;
  }
}
