/** So many changes are remembered while calls are under way: about a second of a busy server's. */
const MAX_CHANGES = 10_000;

/** A call under way: how many changes we had heard of when it began, and in which epoch. */
export interface CallUnderWay {
  readonly heard: number;
  readonly epoch: number;
  readonly startMs: number;
}

/**
 * What changed while calls are under way. A change may overtake an answer that was made before it:
 * such an answer must not be kept.
 */
export class RecentChanges {
  /** By what has changed, the number of its last change. */
  readonly #changes = new Map<string, number>();
  #heard = 0;
  /** Calls that began before this change may have missed one that is no longer remembered. */
  #forgotten = 0;
  #epoch = 0;
  #underWay = 0;

  /** Changes may have been missed: no answer to a call that is under way may be kept. */
  startEpoch(): void {
    this.#epoch++;
  }

  begin(startMs: number): CallUnderWay {
    this.#underWay++;
    return { heard: this.#heard, epoch: this.#epoch, startMs };
  }

  end(): void {
    if (--this.#underWay === 0) this.#changes.clear();
  }

  add(name: string): void {
    this.#heard++;
    if (this.#underWay === 0) return;
    if (this.#changes.size >= MAX_CHANGES) {
      this.#changes.clear();
      this.#forgotten = this.#heard;
    }
    this.#changes.set(name, this.#heard);
  }

  /** Whether none of these has changed since the call began. */
  areUnchanged(names: readonly string[], { heard, epoch }: CallUnderWay): boolean {
    if (epoch !== this.#epoch || heard < this.#forgotten) return false;
    return names.every((name) => (this.#changes.get(name) ?? 0) <= heard);
  }
}
