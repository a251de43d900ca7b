/**
 * A bounded amount that many holders share: bytes, or streams.
 *
 * A holder may hold at most as much as is still free. So one greedy holder gets a half, two get a
 * third each, and a newcomer always finds room. This is the dynamic threshold of Choudhury and Hahne,
 * "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", 1998, with a factor of 1.
 */
export class SharedPool {
  readonly #max: number;
  #held = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** What all holders hold. */
  get held(): number {
    return this.#held;
  }

  /** A new holder, which holds nothing yet. */
  join(): Share {
    let own = 0;
    return {
      get held() {
        return own;
      },
      take: (amount) => {
        if (own + amount > this.#max - this.#held) return false;
        own += amount;
        this.#held += amount;
        return true;
      },
      give: (amount) => {
        own -= amount;
        this.#held -= amount;
      },
    };
  }
}

/** What one holder has of a pool. */
export interface Share {
  readonly held: number;
  /** Takes all of the amount. Or returns false, and takes nothing. */
  take(amount: number): boolean;
  /** Gives back what was taken. */
  give(amount: number): void;
}

/** What one call has taken of its connection's share. All of it goes back when the call ends. */
export class Loan {
  readonly #share: Share;
  #taken = 0;
  #hasEnded = false;

  constructor(share: Share) {
    this.#share = share;
  }

  /** As `Share.take`. After the end it takes nothing and returns true: the bytes are dropped anyway. */
  take(amount: number): boolean {
    if (this.#hasEnded) return true;
    const isTaken = this.#share.take(amount);
    if (isTaken) this.#taken += amount;
    return isTaken;
  }

  /** Gives a part back before the end. */
  give(amount: number): void {
    if (this.#hasEnded) return;
    this.#taken -= amount;
    this.#share.give(amount);
  }

  end(): void {
    this.#share.give(this.#taken);
    this.#taken = 0;
    this.#hasEnded = true;
  }
}
