import { encodeBinaryHeader } from "@connectrpc/connect";
import type { Metadata } from "@grpc/grpc-js";

/** What Headers takes off both ends of a value (Fetch standard, "normalize"). */
const OUTER_WHITESPACE = /^[\t\n\r ]+|[\t\n\r ]+$/g;

/** The members of Headers as methods; Node's declarations have them as properties. */
interface HeadersMethods {
  append(name: string, value: string): void;
  delete(name: string): void;
  entries(): ReturnType<Headers["entries"]>;
  forEach(...args: Parameters<Headers["forEach"]>): void;
  get(name: string): string | null;
  getSetCookie(): string[];
  has(name: string): boolean;
  keys(): ReturnType<Headers["keys"]>;
  set(name: string, value: string): void;
  values(): ReturnType<Headers["values"]>;
  [Symbol.iterator](): ReturnType<Headers["entries"]>;
}

/** Headers as a class whose methods can be overridden. */
const HeadersClass: new () => HeadersMethods = Headers;

/**
 * The headers of a request, as a view of its metadata. Several values of one key
 * are joined with ", ", and binary values become unpadded base64:
 * `decodeBinaryHeader` of @connectrpc/connect reads them.
 *
 * To look up one header, as most interceptors do, reads the metadata; anything
 * else copies all of it first. Headers looks at every character of every value,
 * which for an access token takes longer than all else that this package does
 * for a call.
 */
export class RequestHeaders extends HeadersClass {
  #metadata: Metadata | undefined;

  constructor(metadata: Metadata) {
    super();
    this.#metadata = metadata;
  }

  override get(name: string): string | null {
    const values = this.#metadata?.get(name) ?? [];
    // Before the copy Headers is empty: it answers null, or refuses an invalid name.
    return values.length > 0 ? values.map(toHeaderValue).join(", ") : super.get(name);
  }

  override has(name: string): boolean {
    const values = this.#metadata?.get(name) ?? [];
    return values.length > 0 || super.has(name);
  }

  override append(name: string, value: string): void {
    this.#copied(super.append, name, value);
  }

  override set(name: string, value: string): void {
    this.#copied(super.set, name, value);
  }

  override delete(name: string): void {
    this.#copied(super.delete, name);
  }

  override getSetCookie(): string[] {
    return this.#copied(super.getSetCookie);
  }

  override forEach(...args: Parameters<Headers["forEach"]>): void {
    this.#copied(super.forEach, ...args);
  }

  override keys(): ReturnType<Headers["keys"]> {
    return this.#copied(super.keys);
  }

  override values(): ReturnType<Headers["values"]> {
    return this.#copied(super.values);
  }

  override entries(): ReturnType<Headers["entries"]> {
    return this.#copied(super.entries);
  }

  override [Symbol.iterator](): ReturnType<Headers["entries"]> {
    return this.entries();
  }

  /** Calls a method of Headers, once the metadata has been copied. */
  #copied<Args extends unknown[], Result>(
    method: (...args: Args) => Result,
    ...args: Args
  ): Result {
    const entries = this.#metadata?.toJSON() ?? {};
    this.#metadata = undefined;
    for (const [key, values] of Object.entries(entries)) {
      for (const value of values) super.append(key, toHeaderValue(value));
    }
    return method.apply(this, args);
  }
}

function toHeaderValue(value: string | Buffer): string {
  return typeof value === "string"
    ? value.replace(OUTER_WHITESPACE, "")
    : encodeBinaryHeader(value);
}
