/** The key under which an object holds what its lazy properties read from. */
export const SOURCE = Symbol("source");

/**
 * Describes a property that reads from the object's source each time.
 *
 * It is meant to be a property of the object itself, not of a class, so that an
 * interceptor may pass on `{ ...req, header }`; and it can be assigned to, as on
 * Connect's own objects. One descriptor serves all objects: V8 gives objects
 * with the same getters one hidden class, but not those with a closure each.
 */
export function lazyProperty<Name extends string>(name: Name): PropertyDescriptor {
  return {
    configurable: true,
    enumerable: true,
    get(this: { [SOURCE]: Record<Name, unknown> }): unknown {
      return this[SOURCE][name];
    },
    set(value: unknown) {
      Object.defineProperty(this, name, {
        configurable: true,
        enumerable: true,
        writable: true,
        value,
      });
    },
  };
}

/** Reads `signal` from the source: a signal is made only if somebody asks for it. */
export const LAZY_SIGNAL = lazyProperty("signal");
