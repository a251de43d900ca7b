/**
 * Keeps a value with an object of a library, as a property that nobody else can name. A WeakMap would
 * do the same, but costs each call a few µs, most of it in garbage collection.
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
