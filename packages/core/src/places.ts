/**
 * The places of a server for something that takes memory: calls that wait, or watches. The
 * namespaces share them.
 *
 * A namespace may take a place while it has fewer than are free. So one that is alone gets
 * `perNamespace` places, which is half of all, and leaves as many to others. Each next one gets at
 * most half of the rest: of 20,000 places a dozen greedy namespaces leave some to others. As places
 * are given back, the shares become even. (Choudhury and Hahne, "Dynamic Queue Length Thresholds for
 * Shared-Memory Packet Switches", 1998.)
 */
export class Places {
  readonly #all: number;
  /** How many are free. Only `Share` changes it. */
  free: number;

  /** How many places each caller has taken. Only `Share` changes it. */
  readonly byCaller = new Map<string, number>();
  readonly perCaller: number;

  /**
   * `perNamespace` is how many a namespace gets that is alone, `perCaller` how many a caller may
   * have, as many as its namespace by default.
   */
  constructor(perNamespace: number, perCaller: number = Number.POSITIVE_INFINITY) {
    this.#all = 2 * perNamespace;
    this.free = this.#all;
    this.perCaller = perCaller;
  }

  /** How many all namespaces together have taken. */
  get taken(): number {
    return this.#all - this.free;
  }
}

/** One namespace's share of the places. */
export class Share {
  readonly #places: Places;
  #taken = 0;

  constructor(places: Places) {
    this.#places = places;
  }

  /** How many places the namespace has taken. */
  get taken(): number {
    return this.#taken;
  }

  /** Takes a place for a caller. Answers false if the namespace or the caller has its share already. */
  take(caller = ""): boolean {
    const { free, byCaller, perCaller } = this.#places;
    const own = byCaller.get(caller) ?? 0;
    if (this.#taken >= free || own >= perCaller) return false;
    this.#taken++;
    this.#places.free--;
    byCaller.set(caller, own + 1);
    return true;
  }

  /** Gives back a place of a caller. */
  giveBack(caller = ""): void {
    const { byCaller } = this.#places;
    const own = byCaller.get(caller) ?? 0;
    if (own > 1) byCaller.set(caller, own - 1);
    else byCaller.delete(caller);
    this.#taken--;
    this.#places.free++;
  }
}
