import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import { callUnary, type UnaryRoute } from "./call-unary.js";
import { serializeEnvelope } from "./messages.js";
import { metadataFromHeaders } from "./response-headers.js";
import { statusOf } from "./status.js";
import { UnaryCall } from "./unary-call.js";
import { readRequest, type UnaryBounds } from "./unary-request.js";

/** What unary calls may take. */
export interface UnaryLimits {
  /** Of a request, in bytes. */
  readonly maxReceiveBytes: number;
  /** Of an answer, in bytes. */
  readonly maxSendBytes: number;
  readonly bounds: UnaryBounds | undefined;
}

/** Serves a stream whose headers have come. */
export type ServeStream = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void;

/** Serves a unary method of gRPC on the stream itself, without grpc-js. */
export function serveUnary(route: UnaryRoute, limits: UnaryLimits): ServeStream {
  const { maxReceiveBytes: maxBytes, bounds } = limits;
  return (stream, headers) => {
    if (!headers["content-type"]?.startsWith("application/grpc")) {
      stream.respond({ ":status": 415 }, { endStream: true });
      return;
    }
    const call = new UnaryCall(route, stream, headers);
    const encoding = String(headers["grpc-encoding"] ?? "identity");
    readRequest(
      { stream, encoding, maxBytes, bounds },
      {
        onMessage: (bytes) => {
          call.message = bytes;
          void serve(route, limits, call);
        },
        onFailure: (error) => {
          bounds?.onFailure?.(stream, error);
          call.fail(statusOf(error));
        },
      },
    );
  };
}

/** Never rejects: every fault becomes the status of the call. */
async function serve(route: UnaryRoute, limits: UnaryLimits, call: UnaryCall): Promise<void> {
  const headers = { header: new Headers(), trailer: new Headers() };
  try {
    const { message, header, trailer } = await callUnary(route, call, headers);
    const envelope = serializeEnvelope(route.spec.method.output, message, route.binaryOptions);
    holdAnswer(call, envelope.length, limits);
    call.succeed(envelope, metadataFromHeaders(header), metadataFromHeaders(trailer));
  } catch (error) {
    call.fail(statusOf(error, headers.trailer), headers.header);
  }
}

function holdAnswer({ stream }: UnaryCall, bytes: number, { maxSendBytes, bounds }: UnaryLimits) {
  if (bytes > maxSendBytes) {
    const message = `the answer has ${bytes} bytes, more than the ${maxSendBytes} that are allowed`;
    throw new ConnectError(message, Code.ResourceExhausted);
  }
  try {
    bounds?.hold(stream, bytes);
  } catch (error) {
    bounds?.onFailure?.(stream, error);
    throw error;
  }
}
