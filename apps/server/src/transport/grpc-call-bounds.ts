import type { ServerHttp2Stream } from "node:http2";
import { type Metadata, ServerInterceptingCall, type ServerInterceptor } from "@grpc/grpc-js";
import { CHUNK_BYTES, ENVELOPE_BYTES, statusOf, type UnaryBounds } from "@sessiond/connect-grpc-js";
import type { Edge } from "../edge/edge.js";
import type { OpenStream } from "../edge/open-stream.js";
import { toConnectError } from "../services/rpc-error.js";
import type { GrpcGate } from "./grpc-gate.js";
import { inflate } from "./inflate.js";
import { tooMuchAtOnce } from "./too-much.js";

/** After its answer, so much of a request is read on. It may be on its way already. */
const MAX_DRAINED_BYTES = 64 * 1024;

/** What grpc-js has for each call below all interceptors. Private, so tests guard it. */
interface BaseCall {
  readonly stream: ServerHttp2Stream;
  readonly metadata: Metadata;
  readonly incomingEncoding: string;
  decompressMessage(message: Buffer, encoding: string): Buffer | Promise<Buffer>;
  sendMessage(message: unknown, sent: () => void): void;
  sendStatus(status: ReturnType<typeof statusOf>): void;
}

/**
 * Bounds what the calls of grpc-js hold: requests, messages that they inflate, answers that nobody
 * takes, and streams that nobody needs an access token for. It must be the first interceptor, which
 * alone gets the call itself. `onCall` hears which metadata a stream's call has.
 */
export function boundCalls(
  edge: Edge,
  gate: GrpcGate,
  onCall: (stream: ServerHttp2Stream, metadata: Metadata) => void,
): ServerInterceptor {
  return ({ path, responseStream }, nextCall) => {
    const call = nextCall as unknown as BaseCall;
    onCall(call.stream, call.metadata);
    const open = edge.streamOf(call.stream);
    if (open === undefined) return nextCall as ServerInterceptingCall;
    const fail = (error: unknown) => {
      const failure = toConnectError(error);
      gate.noteFailure(call.stream, failure);
      call.sendStatus(statusOf(failure));
    };
    boundRequest(call, open, fail);
    if (call.incomingEncoding !== "identity") {
      boundInflation(call, open, { maxBytes: edge.limits.maxMessageBytes, fail });
    }
    if (path.startsWith("/sessiond.")) {
      boundAnswers(call, open, fail);
      return nextCall as ServerInterceptingCall;
    }
    return responseStream
      ? boundOpenStream(nextCall, call, { open, edge, fail })
      : (nextCall as ServerInterceptingCall);
  };
}

/** The same for unary calls of the contract, which pass grpc-js by. Health checks do not. */
export function boundUnaryCalls(edge: Edge, gate: GrpcGate): UnaryBounds {
  const hold = (stream: ServerHttp2Stream, bytes: number) => {
    if (edge.streamOf(stream)?.memory.take(bytes) === false) {
      throw toConnectError(tooMuchAtOnce("buffered_bytes"));
    }
  };
  return {
    hold,
    inflate: (stream, { bytes, encoding, maxBytes }) => {
      const take = (length: number) => edge.streamOf(stream)?.memory.take(length) !== false;
      return inflate(bytes, encoding, { maxBytes, take });
    },
    onFailure: (stream, error) => gate.noteFailure(stream, toConnectError(error)),
  };
}

type Fail = (error: unknown) => void;

/**
 * Charges a request's bytes to its connection until the call ends, before grpc-js collects them. The
 * listener only counts: grpc-js decides when the stream flows.
 */
function boundRequest({ stream }: BaseCall, { memory }: OpenStream, fail: Fail): void {
  let drainedBytes = 0;
  stream.prependListener("data", (chunk: Buffer) => {
    if (stream.writableEnded) {
      // The call has its answer, and grpc-js reads the rest of its request for nothing.
      drainedBytes += chunk.length;
      if (drainedBytes > MAX_DRAINED_BYTES && !stream.closed) stream.close();
    } else if (!memory.take(chunk.length + CHUNK_BYTES)) {
      fail(tooMuchAtOnce("buffered_bytes"));
    }
  });
}

function boundInflation(
  call: BaseCall,
  { memory }: OpenStream,
  { maxBytes, fail }: { readonly maxBytes: number; readonly fail: Fail },
): void {
  const decompress = call.decompressMessage;
  call.decompressMessage = async (message, encoding) => {
    if (encoding !== "gzip" && encoding !== "deflate") {
      return decompress.call(call, message, encoding);
    }
    const limits = { maxBytes, take: (bytes: number) => memory.take(bytes) };
    try {
      return await inflate(message.subarray(ENVELOPE_BYTES), encoding, limits);
    } catch (error) {
      fail(error);
      // grpc-js sends it, too, and then sees that the call has its answer.
      throw statusOf(error);
    }
  };
}

/** An answer is charged to its connection until its client has taken it. */
function boundAnswers(call: BaseCall, { memory }: OpenStream, fail: Fail): void {
  const send = call.sendMessage;
  call.sendMessage = (message, sent) => {
    const { length } = message as Buffer;
    if (!memory.take(length)) return fail(tooMuchAtOnce("buffered_bytes"));
    send.call(call, message, () => {
      memory.give(length);
      sent();
    });
  };
}

type NextCall = Parameters<ServerInterceptor>[1];

/** Watches of health, and reflection. */
function boundOpenStream(
  nextCall: NextCall,
  call: BaseCall,
  { open, edge, fail }: { readonly open: OpenStream; readonly edge: Edge; readonly fail: Fail },
): ServerInterceptingCall {
  const { connection } = open;
  if (!connection.openShare.take(1)) {
    fail(tooMuchAtOnce("streams"));
    return nextCall as ServerInterceptingCall;
  }
  call.stream.once("close", () => connection.openShare.give(1));
  let messages = 0;
  return new ServerInterceptingCall(nextCall, {
    start: (next) =>
      next({
        onReceiveMessage: (message, nextMessage) => {
          messages++;
          // The gate has counted the call, and so its first message.
          if (messages > 1 && !edge.countUnauthenticated(connection)) {
            fail(tooMuchAtOnce("streams"));
          }
          nextMessage(message);
        },
      }),
  });
}
