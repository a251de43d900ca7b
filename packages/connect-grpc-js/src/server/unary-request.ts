import type { ServerHttp2Stream } from "node:http2";
import { promisify } from "node:util";
import { gunzip, inflate } from "node:zlib";
import { Code, ConnectError } from "@connectrpc/connect";

/** A byte of flags and four bytes of length stand before a message. */
export const ENVELOPE_BYTES = 5;
/** What Node keeps beside each chunk of a request, measured. In bytes. */
export const CHUNK_BYTES = 160;

const INFLATERS = { gzip: promisify(gunzip), deflate: promisify(inflate) };
type Encoding = keyof typeof INFLATERS;

/** Bounds what unary calls hold. */
export interface UnaryBounds {
  /**
   * Asked before more bytes are kept for a call. They are free again when its stream closes. May throw
   * a ConnectError, which ends the call.
   */
  readonly hold: (stream: ServerHttp2Stream, bytes: number) => void;

  /**
   * Inflates a message, to at most `maxBytes`. Rejects with a ConnectError, which ends the call.
   * Default: with node:zlib.
   */
  readonly inflate?: (
    stream: ServerHttp2Stream,
    message: { readonly bytes: Uint8Array; readonly encoding: Encoding; readonly maxBytes: number },
  ) => Promise<Uint8Array>;

  /** Told of a failure that no interceptor hears of. Default: nobody is. */
  readonly onFailure?: (stream: ServerHttp2Stream, error: unknown) => void;
}

/** Where a request comes from, and how much of it may come. */
export interface RequestOptions {
  readonly stream: ServerHttp2Stream;
  /** Of `grpc-encoding`. */
  readonly encoding: string;
  readonly maxBytes: number;
  readonly bounds: UnaryBounds | undefined;
}

/** What becomes of a request. One of the two is called, or none if nobody waits for it any more. */
export interface RequestListener {
  readonly onMessage: (bytes: Uint8Array) => void;
  readonly onFailure: (error: unknown) => void;
}

/** Reads the one message of a unary request. After a failure, the rest of the request is not read. */
export function readRequest(options: RequestOptions, listener: RequestListener): void {
  const { stream, maxBytes, bounds } = options;
  // Nearly every request is one chunk.
  let first: Buffer | undefined;
  let parts: Buffer[] | undefined;
  let length = 0;
  const stop = (error: unknown) => {
    stream.off("data", onData).off("end", onEnd).pause();
    listener.onFailure(error);
  };
  const onData = (chunk: Buffer) => {
    try {
      bounds?.hold(stream, chunk.length + CHUNK_BYTES);
    } catch (error) {
      stop(error);
      return;
    }
    length += chunk.length;
    if (length > maxBytes + ENVELOPE_BYTES) return stop(tooLong(maxBytes));
    if (first === undefined) {
      first = chunk;
      const fault = chunk.length < ENVELOPE_BYTES ? undefined : announcedFault(chunk, maxBytes);
      if (fault !== undefined) stop(fault);
    } else if (parts === undefined) parts = [first, chunk];
    else parts.push(chunk);
  };
  const onEnd = () => {
    // Node also emits "end" if the client resets its request, and if the call has its answer.
    if (stream.closed || stream.destroyed) return;
    open(parts ? Buffer.concat(parts, length) : (first ?? Buffer.alloc(0)), options, listener);
  };
  stream.on("data", onData).on("end", onEnd);
}

/** Takes the message out of its envelope. */
function open(request: Buffer, options: RequestOptions, listener: RequestListener): void {
  const { encoding, maxBytes } = options;
  const fault = faultOf(request, maxBytes);
  const bytes = request.subarray(ENVELOPE_BYTES);
  if (fault !== undefined) listener.onFailure(fault);
  else if (request[0] === 0) listener.onMessage(bytes);
  else if (encoding === "identity") {
    listener.onFailure(malformed("the message is compressed, but grpc-encoding does not say how"));
  } else if (encoding !== "gzip" && encoding !== "deflate") {
    listener.onFailure(unknownEncoding(encoding));
  } else {
    inflateMessage(bytes, encoding, options).then(listener.onMessage, listener.onFailure);
  }
}

/** What is wrong with the envelope. The codes of the counts of messages are gRPC's. */
function faultOf(request: Buffer, maxBytes: number): ConnectError | undefined {
  if (request.length === 0) {
    return new ConnectError("expected one message, got none", Code.Unimplemented);
  }
  if (request.length < ENVELOPE_BYTES) return incomplete(request.length);
  const fault = announcedFault(request, maxBytes);
  if (fault !== undefined) return fault;
  const length = request.readUInt32BE(1);
  if (request.length - ENVELOPE_BYTES > length) {
    return new ConnectError("expected one message, got more", Code.Unimplemented);
  }
  return request.length - ENVELOPE_BYTES < length ? incomplete(request.length) : undefined;
}

/** What is wrong with what stands before the message. */
function announcedFault(request: Buffer, maxBytes: number): ConnectError | undefined {
  const flags = request[0] ?? 0;
  if (flags > 1) return malformed(`expected 0 or 1 as the flags of the message, got ${flags}`);
  return request.readUInt32BE(1) > maxBytes ? tooLong(maxBytes) : undefined;
}

async function inflateMessage(
  bytes: Uint8Array,
  encoding: Encoding,
  { stream, maxBytes, bounds }: RequestOptions,
): Promise<Uint8Array> {
  if (bounds?.inflate) return bounds.inflate(stream, { bytes, encoding, maxBytes });
  try {
    const limit = Number.isFinite(maxBytes) ? { maxOutputLength: maxBytes } : {};
    return await INFLATERS[encoding](bytes, limit);
  } catch (error) {
    const isTooLong = (error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE";
    throw isTooLong ? tooLong(maxBytes) : malformed(`expected a message in the format ${encoding}`);
  }
}

function tooLong(maxBytes: number): ConnectError {
  return new ConnectError(
    `expected a message of at most ${maxBytes} bytes`,
    Code.ResourceExhausted,
  );
}

function malformed(message: string): ConnectError {
  return new ConnectError(message, Code.InvalidArgument);
}

function incomplete(bytes: number): ConnectError {
  return malformed(`the request ended in the middle of a message, after ${bytes} bytes`);
}

function unknownEncoding(encoding: string): ConnectError {
  const message = `expected a message in the encoding gzip, deflate or identity, got ${encoding}`;
  return new ConnectError(message, Code.Unimplemented);
}
