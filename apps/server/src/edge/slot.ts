/**
 * Keeps a value with an object of a library, as a property that nobody else can name. A WeakMap would
 * do the same more slowly: each collection of garbage looks at all of its entries.
 */
export class Slot<Holder extends object, Value> {
  readonly #key = Symbol();

  get(holder: Holder): Value | undefined {
    return (holder as Record<symbol, Value | undefined>)[this.#key];
  }

  set(holder: Holder, value: Value): void {
    (holder as Record<symbol, Value | undefined>)[this.#key] = value;
  }
}
