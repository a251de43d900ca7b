import { encodeBinaryHeader } from "@connectrpc/connect";
import type { Metadata } from "@grpc/grpc-js";

/** What Headers removes from both ends of a value (Fetch standard, "normalize"). */
const OUTER_WHITESPACE = /^[\t\n\r ]+|[\t\n\r ]+$/g;

/** These methods need all entries, so they copy the metadata first. */
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
 * Headers as a view of the metadata of a request or a response. Joins several values of one key with ", ".
 * Binary values become unpadded base64, for `decodeBinaryHeader` of @connectrpc/connect.
 *
 * `get` and `has`, which most interceptors use, read the metadata. Every other method copies all
 * of it first. A copy is slow, because Headers checks each character of each value: for an access
 * token that takes longer than everything else that this package does for a call.
 */
export class MetadataHeaders extends HeadersClass {
  #metadata: Metadata | undefined;

  static {
    for (const name of COPYING_METHODS) {
      const method = Headers.prototype[name] as (...args: unknown[]) => unknown;
      const value = function (this: MetadataHeaders, ...args: unknown[]) {
        this.#copy();
        return method.apply(this, args);
      };
      Object.defineProperty(MetadataHeaders.prototype, name, { value });
    }
  }

  constructor(metadata: Metadata) {
    super();
    this.#metadata = metadata;
  }

  override get(name: string): string | null {
    const values = this.#metadata?.get(name) ?? [];
    // Before the copy, `super` is empty: it returns null, or refuses an invalid name.
    return values.length > 0 ? values.map(toHeaderValue).join(", ") : super.get(name);
  }

  override has(name: string): boolean {
    const values = this.#metadata?.get(name) ?? [];
    return values.length > 0 || super.has(name);
  }

  #copy(): void {
    const entries = this.#metadata?.toJSON() ?? {};
    this.#metadata = undefined;
    for (const [key, values] of Object.entries(entries)) {
      for (const value of values) super.append(key, toHeaderValue(value));
    }
  }
}

function toHeaderValue(value: string | Buffer): string {
  return typeof value === "string"
    ? value.replace(OUTER_WHITESPACE, "")
    : encodeBinaryHeader(value);
}
