import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { Server } from "@grpc/grpc-js";
import { onHttp2Server } from "./http2-servers.js";
import type { ServeStream } from "./unary.js";

/** A timer of Node with a longer delay fires at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;
/** The units that exceed it within the eight digits that gRPC allows. */
const LONG_UNITS_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000 };

/**
 * Told of each call when its headers have arrived, before anything is read of it. Calls `serve`, now or
 * later, to let the call in. Otherwise it answers the stream itself.
 */
export type CallGate = (
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  serve: () => void,
) => void;

interface IncomingStreams {
  /** What serves the streams of unary methods, by path. grpc-js serves the others. */
  readonly unary: ReadonlyMap<string, ServeStream>;
  /** Default: all calls come in. */
  readonly gate: CallGate | undefined;
}

/**
 * Stands between HTTP/2 and grpc-js, from the next `bindAsync` on. Asks the gate about each call, serves
 * unary calls, and corrects what grpc-js makes of two headers:
 *
 * - It wraps a deadline above 2^31 ms around: such a call would fail at once, or much too early.
 * - It sees only the first of several authorization headers, as Node does. Connect joins the values
 *   of a repeated header, so that an interceptor can refuse them.
 */
export function takeStreams(
  server: Server,
  { unary, gate = (_stream, _headers, serve) => serve() }: IncomingStreams,
): void {
  onHttp2Server(server, (http2) => {
    const listeners = http2.listeners("stream");
    http2.removeAllListeners("stream");
    http2.on("stream", (stream, headers, flags, rawHeaders) => {
      // A broken stream is its client's affair. Whoever serves it hears of its end.
      stream.on("error", ignore);
      correct(headers, rawHeaders);
      const incoming = { stream: stream as ServerHttp2Stream, headers, arrivalMs: Date.now() };
      gate(incoming.stream, headers, () => {
        const serve = unary.get(headers[":path"] ?? "");
        if (serve !== undefined) return serve(incoming);
        for (const listener of listeners) listener.call(http2, stream, headers, flags, rawHeaders);
      });
    });
  });
}

function ignore(): void {}

function correct(headers: IncomingHttpHeaders, rawHeaders: readonly string[]): void {
  const timeout = headers["grpc-timeout"];
  if (typeof timeout === "string") headers["grpc-timeout"] = limitGrpcTimeout(timeout);
  if (headers.authorization !== undefined) headers.authorization = joinAuthorization(rawHeaders);
}

/**
 * The value of a `grpc-timeout` header, or the longest that a timer of Node can hold, which is 24
 * days. A client enforces its deadline itself, too.
 */
export function limitGrpcTimeout(value: string): string {
  const [, count, unit = ""] = /(\d+)\s*([HMS])/.exec(value) ?? [];
  const isTooLong = Number(count) * (LONG_UNITS_MS[unit] ?? 0) > MAX_TIMER_MS;
  return isTooLong ? `${Math.floor(MAX_TIMER_MS / 1000)}S` : value;
}

/** The different values of all authorization headers, joined with ", ". */
export function joinAuthorization(rawHeaders: readonly string[]): string {
  const values = new Set<string>();
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i]?.toLowerCase() === "authorization") values.add(rawHeaders[i + 1] ?? "");
  }
  return [...values].join(", ");
}
