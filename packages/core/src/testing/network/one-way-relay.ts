import type { Socket } from "node:net";

/** What becomes of the bytes of one direction. It may change its mind; `flush` then. */
export interface RelayPolicy {
  /** For how long after its arrival a chunk is held back; Infinity until further notice. */
  readonly delayMs: () => number;
  /** Asked once for each chunk that is due. */
  readonly isLost: () => boolean;
}

/** More than that is left with the sender, which sees the receiver as slow. */
const MAX_HELD_BYTES = 1024 * 1024;

/** Carries one direction of a TCP connection, and how it ends, from one socket to another. */
export class OneWayRelay {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #policy: RelayPolicy;
  readonly #held: { readonly what: Buffer | "end" | "close"; readonly arrivedAtMs: number }[] = [];
  #heldBytes = 0;
  #hasEnded = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(from: Socket, to: Socket, policy: RelayPolicy) {
    this.#from = from;
    this.#to = to;
    this.#policy = policy;
    from.on("data", (chunk: Buffer) => this.#arrive(chunk));
    from.on("end", () => {
      this.#hasEnded = true;
      this.#arrive("end");
    });
    // "close" follows, and knows.
    from.on("error", () => {});
    from.on("close", (hadError) => {
      // After an end in order, the other direction may still have something to say.
      if (hadError || !this.#hasEnded) this.#arrive("close");
    });
    to.on("drain", () => this.flush());
    to.on("close", () => clearTimeout(this.#timer));
  }

  /** Delivers what is due. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#deliverDue();
    if (this.#heldBytes < MAX_HELD_BYTES) this.#from.resume();
  }

  #arrive(what: Buffer | "end" | "close"): void {
    this.#held.push({ what, arrivedAtMs: performance.now() });
    this.#heldBytes += sizeOf(what);
    if (this.#heldBytes >= MAX_HELD_BYTES) this.#from.pause();
    this.flush();
  }

  #deliverDue(): void {
    for (let next = this.#held[0]; next !== undefined; next = this.#held[0]) {
      const waitMs = next.arrivedAtMs + this.#policy.delayMs() - performance.now();
      if (waitMs === Number.POSITIVE_INFINITY) return;
      if (waitMs > 0) {
        this.#timer = setTimeout(() => this.flush(), waitMs);
        return;
      }
      if (this.#to.writableNeedDrain) return;
      this.#held.shift();
      this.#heldBytes -= sizeOf(next.what);
      this.#deliver(next.what);
    }
  }

  #deliver(what: Buffer | "end" | "close"): void {
    if (what === "end") this.#to.end();
    else if (what === "close") this.#to.destroy();
    else if (!this.#policy.isLost() && !this.#to.destroyed) this.#to.write(what);
  }
}

function sizeOf(what: Buffer | "end" | "close"): number {
  return typeof what === "string" ? 0 : what.length;
}
