import type { IncomingHttpHeaders } from "node:http2";
import { type HeaderSource, LazyHeaders } from "./lazy-headers.js";

/** The protocol's own, which grpc-js hides from handlers, too. */
const HIDDEN = new Set([
  "accept-encoding",
  "content-type",
  "grpc-accept-encoding",
  "grpc-encoding",
  "grpc-timeout",
  "te",
]);

/** The headers of a request of HTTP/2, as its handler sees them. */
export class RequestHeaders extends LazyHeaders {
  constructor(headers: IncomingHttpHeaders) {
    super(new Http2Source(headers));
  }
}

class Http2Source implements HeaderSource {
  readonly #headers: IncomingHttpHeaders;

  constructor(headers: IncomingHttpHeaders) {
    this.#headers = headers;
  }

  get(name: string): string | undefined {
    const value = this.#headers[name];
    if (value === undefined || HIDDEN.has(name) || name.startsWith(":")) return undefined;
    const text = Array.isArray(value) ? value.join(", ") : value;
    return name.endsWith("-bin") ? withoutPadding(text) : text;
  }

  *entries(): Iterable<readonly [string, string]> {
    for (const name of Object.keys(this.#headers)) {
      const value = this.get(name);
      if (value !== undefined) yield [name, value];
    }
  }
}

/** Clients may pad base64. Connect does not, and joins several values with ", ". */
function withoutPadding(text: string): string {
  return text
    .split(",")
    .map((value) => value.trim().replace(/=+$/, ""))
    .join(", ");
}
