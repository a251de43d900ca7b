/** Where lazy headers come from. Names are in lower case. */
export interface HeaderSource {
  /** All values of a name, joined with ", ". Undefined without any. */
  get(name: string): string | undefined;
  entries(): Iterable<readonly [string, string]>;
}

/** These methods need all entries, so they copy the source first. */
const COPYING_METHODS = [
  "append",
  "delete",
  "entries",
  "forEach",
  "getSetCookie",
  "keys",
  "set",
  "values",
  Symbol.iterator,
] as const satisfies readonly (keyof Headers)[];

/** Headers with methods. Node declares them as properties, which a class cannot override. */
interface OverridableHeaders extends Omit<Headers, "append" | "get" | "has"> {
  append(name: string, value: string): void;
  get(name: string): string | null;
  has(name: string): boolean;
}
const HeadersClass: new () => OverridableHeaders = Headers;

/**
 * Headers as a view of a source.
 *
 * `get` and `has`, which most interceptors use, read the source. Every other method copies all of it
 * first. A copy is slow, because Headers checks each character of each value: for an access token
 * that takes longer than everything else that this package does for a call.
 */
export class LazyHeaders extends HeadersClass {
  #source: HeaderSource | undefined;

  static {
    for (const name of COPYING_METHODS) {
      const method = Headers.prototype[name] as (...args: unknown[]) => unknown;
      const value = function (this: LazyHeaders, ...args: unknown[]) {
        this.#copy();
        return method.apply(this, args);
      };
      Object.defineProperty(LazyHeaders.prototype, name, { value });
    }
  }

  constructor(source: HeaderSource) {
    super();
    this.#source = source;
  }

  override get(name: string): string | null {
    // Before the copy, `super` is empty: it returns null, or refuses an invalid name.
    return this.#source?.get(name.toLowerCase()) ?? super.get(name);
  }

  override has(name: string): boolean {
    return this.#source?.get(name.toLowerCase()) !== undefined || super.has(name);
  }

  #copy(): void {
    const source = this.#source;
    this.#source = undefined;
    for (const [name, value] of source?.entries() ?? []) super.append(name, value);
  }
}
