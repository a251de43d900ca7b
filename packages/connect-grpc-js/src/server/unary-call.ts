import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { Message } from "@bufbuild/protobuf";
import { Code, ConnectError, type ContextValues } from "@connectrpc/connect";
import { Metadata, type StatusObject } from "@grpc/grpc-js";
import { RequestHeaders } from "../metadata/request-headers.js";
import type { UnaryIncoming, UnaryRoute } from "./call-unary.js";
import { parseMessage } from "./messages.js";
import { metadataFromHeaders } from "./response-headers.js";
import type { IncomingCall } from "./route.js";
import { statusOf } from "./status.js";

/** https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md */
const TIMEOUT = /^(\d{1,8})([HMSmun])$/;
const UNITS_MS: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1_000,
  m: 1,
  u: 1e-3,
  n: 1e-6,
};
const RESPONSE_HEADERS = {
  ":status": 200,
  "content-type": "application/grpc+proto",
  "grpc-accept-encoding": "gzip,deflate,identity",
};
const WITH_TRAILERS = { waitForTrailers: true };
const NO_BYTES = new Uint8Array();
const OK_TRAILERS = { "grpc-status": "0" };

/** A stream whose headers have come. */
export interface Incoming {
  readonly stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  /** As `Date.now()`. */
  readonly arrivalMs: number;
}

type OnExpired = (error: ConnectError) => void;

/**
 * A unary call on a stream of HTTP/2. grpc-js would serve it with the objects that it needs for calls of
 * all kinds, for about half of the call's time.
 */
export class UnaryCall implements IncomingCall, UnaryIncoming {
  readonly protocolName = "grpc";
  readonly stream: ServerHttp2Stream;
  /** The bytes of the request, once they are there. */
  message: Uint8Array = NO_BYTES;
  readonly #route: UnaryRoute;
  readonly #headers: IncomingHttpHeaders;
  readonly #onExpired: OnExpired;
  readonly #deadlineMs: number = Number.POSITIVE_INFINITY;
  readonly #timer: NodeJS.Timeout | undefined;
  #hasAnswered = false;
  #onCancelled: (() => void) | undefined;

  constructor(route: UnaryRoute, { stream, headers, arrivalMs }: Incoming, onExpired: OnExpired) {
    this.#route = route;
    this.stream = stream;
    this.#headers = headers;
    this.#onExpired = onExpired;
    const timeout = headers["grpc-timeout"];
    if (timeout === undefined) return;
    this.#deadlineMs = arrivalMs + parseTimeout(String(timeout));
    this.#timer = setTimeout(() => this.#expire(), this.#deadlineMs - Date.now());
    stream.once("close", () => clearTimeout(this.#timer));
  }

  get url(): string {
    return `http://${this.getHost()}${this.getPath()}`;
  }

  get header(): Headers {
    return new RequestHeaders(this.#headers);
  }

  get contextValues(): ContextValues {
    return this.#route.contextValues(this);
  }

  get metadata(): Metadata {
    return Metadata.fromHttp2Headers(this.#headers);
  }

  parse(): Message {
    return parseMessage(this.#route.spec.method.input, this.message, this.#route);
  }

  get cancelled(): boolean {
    return this.stream.destroyed || this.stream.closed || Date.now() >= this.#deadlineMs;
  }

  getDeadline(): number {
    return this.#deadlineMs;
  }

  getPeer(): string {
    const { remoteAddress, remotePort } = this.stream.session?.socket ?? {};
    return remoteAddress === undefined ? "unknown" : `${remoteAddress}:${remotePort}`;
  }

  getHost(): string {
    return this.#headers[":authority"] ?? this.#headers.host ?? "";
  }

  getPath(): string {
    return this.#headers[":path"] ?? "";
  }

  /** Calls the listener when the deadline has passed, and when the call has ended in any way. */
  once(_event: "cancelled", listener: () => void): void {
    this.#onCancelled = listener;
    this.stream.once("close", listener);
  }

  /** Answers with an envelope that has the message. */
  succeed(envelope: Buffer, header: Metadata | undefined, trailer: Metadata | undefined): void {
    if (!this.#begin()) return;
    const trailers = trailer ? { ...OK_TRAILERS, ...trailer.toHttp2Headers() } : OK_TRAILERS;
    this.#respond(header?.toHttp2Headers(), trailers);
    this.stream.end(envelope);
  }

  /** Answers with a status, and with headers if gRPC can carry them. */
  fail({ code, details, metadata }: StatusObject, header?: Headers): void {
    if (!this.#begin()) return;
    const status = { "grpc-status": String(code), "grpc-message": encodeURI(details) };
    const trailers = { ...metadata.toHttp2Headers(), ...status };
    const headers = header && tryHeaders(header);
    if (headers === undefined) {
      this.stream.respond({ ...RESPONSE_HEADERS, ...trailers }, { endStream: true });
    } else {
      this.#respond(headers, trailers);
      this.stream.end();
    }
    // The client may still send its request (RFC 9113, 8.1). By then the answer is on its way.
    if (!this.stream.readableEnded) setImmediate(() => closeUnread(this.stream));
  }

  /** Whether the call needs an answer. It gets one. */
  #begin(): boolean {
    if (this.#hasAnswered || this.stream.destroyed || this.stream.closed) return false;
    this.#hasAnswered = true;
    clearTimeout(this.#timer);
    return true;
  }

  #respond(headers: OutgoingHttpHeaders | undefined, trailers: OutgoingHttpHeaders): void {
    const { stream } = this;
    stream.respond(headers ? { ...RESPONSE_HEADERS, ...headers } : RESPONSE_HEADERS, WITH_TRAILERS);
    stream.on("wantTrailers", () => stream.sendTrailers(trailers));
  }

  #expire(): void {
    this.#onCancelled?.();
    const error = new ConnectError("the operation timed out", Code.DeadlineExceeded);
    this.#onExpired(error);
    this.fail(statusOf(error));
  }
}

/** Node closes a stream only when what has come is read. */
function closeUnread(stream: ServerHttp2Stream): void {
  stream.close();
  stream.resume();
}

function parseTimeout(value: string): number {
  const [, count, unit = ""] = TIMEOUT.exec(value) ?? [];
  return Number(count) * (UNITS_MS[unit] ?? 0);
}

function tryHeaders(header: Headers): OutgoingHttpHeaders | undefined {
  try {
    return metadataFromHeaders(header)?.toHttp2Headers();
  } catch {
    // The status matters more, and it follows.
    return undefined;
  }
}
