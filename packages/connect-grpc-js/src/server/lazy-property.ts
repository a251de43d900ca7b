/** The key under which an object holds the source of its lazy properties. */
export const SOURCE = Symbol("source");

/**
 * Describes a property that reads from the object's source each time.
 *
 * It belongs on the object itself and not on a class, so that an interceptor may pass on
 * `{ ...req, header }`. It is assignable, as on Connect's own objects. One descriptor serves all
 * objects: V8 gives objects with the same getters one hidden class, but not objects with a closure
 * each.
 */
export function lazyProperty<Name extends string>(name: Name): PropertyDescriptor {
  const shown = { configurable: true, enumerable: true };
  return {
    ...shown,
    get(this: { [SOURCE]: Record<Name, unknown> }): unknown {
      return this[SOURCE][name];
    },
    set(value: unknown) {
      Object.defineProperty(this, name, { ...shown, writable: true, value });
    },
  };
}

/** Reads `signal` from the source, which makes a signal only if somebody reads it. */
export const LAZY_SIGNAL = lazyProperty("signal");
