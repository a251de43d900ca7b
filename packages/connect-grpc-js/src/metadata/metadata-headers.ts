import { encodeBinaryHeader } from "@connectrpc/connect";
import type { Metadata } from "@grpc/grpc-js";
import { type HeaderSource, LazyHeaders } from "./lazy-headers.js";

/** What Headers removes from both ends of a value (Fetch standard, "normalize"). */
const OUTER_WHITESPACE = /^[\t\n\r ]+|[\t\n\r ]+$/g;

/**
 * The metadata of a request or a response as headers. Binary values become unpadded base64, for
 * `decodeBinaryHeader` of @connectrpc/connect.
 */
export class MetadataHeaders extends LazyHeaders {
  constructor(metadata: Metadata) {
    super(new MetadataSource(metadata));
  }
}

class MetadataSource implements HeaderSource {
  readonly #metadata: Metadata;

  constructor(metadata: Metadata) {
    this.#metadata = metadata;
  }

  get(name: string): string | undefined {
    const values = this.#metadata.get(name);
    return values.length > 0 ? values.map(toHeaderValue).join(", ") : undefined;
  }

  *entries(): Iterable<readonly [string, string]> {
    for (const [name, values] of Object.entries(this.#metadata.toJSON())) {
      for (const value of values) yield [name, toHeaderValue(value)];
    }
  }
}

function toHeaderValue(value: string | Buffer): string {
  return typeof value === "string"
    ? value.replace(OUTER_WHITESPACE, "")
    : encodeBinaryHeader(value);
}
