import type { IncomingHttpHeaders } from "node:http2";
import { type HeaderSource, LazyHeaders } from "./lazy-headers.js";

/** The protocol's own, which grpc-js hides from handlers, too. */
const GRPC_OWN: ReadonlySet<string> = new Set([
  "accept-encoding",
  "content-type",
  "grpc-accept-encoding",
  "grpc-encoding",
  "grpc-timeout",
  "te",
]);

/** The headers of Node's requests, as a handler sees them: by default of gRPC, without its own. */
export class RequestHeaders extends LazyHeaders {
  constructor(headers: IncomingHttpHeaders, hidden: ReadonlySet<string> = GRPC_OWN) {
    super(new NodeSource(headers, hidden));
  }
}

class NodeSource implements HeaderSource {
  readonly #headers: IncomingHttpHeaders;
  readonly #hidden: ReadonlySet<string>;

  constructor(headers: IncomingHttpHeaders, hidden: ReadonlySet<string>) {
    this.#headers = headers;
    this.#hidden = hidden;
  }

  get(name: string): string | undefined {
    // Over HTTP/1.1 they are an object with a prototype.
    const value = Object.hasOwn(this.#headers, name) ? this.#headers[name] : undefined;
    if (value === undefined || this.#hidden.has(name) || name.startsWith(":")) return undefined;
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
