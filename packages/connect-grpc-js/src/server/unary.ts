import { Code, ConnectError } from "@connectrpc/connect";
import { callUnary, type UnaryRoute } from "./call-unary.js";
import { serializeEnvelope } from "./messages.js";
import { metadataFromHeaders } from "./response-headers.js";
import { statusOf } from "./status.js";
import { type Incoming, UnaryCall } from "./unary-call.js";
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
export type ServeStream = (incoming: Incoming) => void;

/** Serves a unary method of gRPC on the stream itself, without grpc-js. */
export function serveUnary(route: UnaryRoute, limits: UnaryLimits): ServeStream {
  const { maxReceiveBytes: maxBytes, bounds } = limits;
  return (incoming) => {
    const { stream, headers } = incoming;
    const note = (error: unknown) => bounds?.onFailure?.(stream, error);
    if (!headers["content-type"]?.startsWith("application/grpc")) {
      note(new ConnectError("expected the content type application/grpc", Code.InvalidArgument));
      if (!stream.closed) stream.respond({ ":status": 415 }, { endStream: true });
      return;
    }
    const call = new UnaryCall(route, incoming, note);
    const encoding = String(headers["grpc-encoding"] ?? "identity");
    readRequest(
      { stream, encoding, maxBytes, bounds },
      {
        onMessage: (bytes) => {
          // It has its answer already, or needs none.
          if (call.cancelled) return;
          call.message = bytes;
          void serve(route, limits, call);
        },
        onFailure: (error) => {
          note(error);
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
    const envelope = serializeEnvelope(route.spec.method.output, message, route);
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
