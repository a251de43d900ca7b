import { IncomingMessage } from "node:http";
import type { Http2ServerRequest } from "node:http2";
import { createContextKey } from "@connectrpc/connect";
import { CLIENT_GONE } from "../services/rpc-error.js";

/** A byte of flags and four bytes of length stand before a stream's message. */
export const ENVELOPE_BYTES = 5;

/** Whether messages of this content type stand in envelopes. */
export function isEnveloped(type: string): boolean {
  return /^application\/(?:grpc|connect\+)/.test(type);
}

/** The body of a call's request. */
export const requestBodyKey = createContextKey<RequestBody | undefined>(undefined, {
  description: "the body of the request",
});

/**
 * Reads a request in one piece on the first read: every call has one message. Node's own iterator
 * takes as long as the rest of a small request.
 */
export class RequestBody implements AsyncIterable<Uint8Array> {
  readonly #request: IncomingMessage | Http2ServerRequest;
  readonly #maxBytes: number;
  readonly #check: (bytes: Uint8Array) => void;
  /** Empty before the body has been read. */
  bytes: Uint8Array = new Uint8Array();

  /**
   * Stops reading after more than `maxBytes`. Connect then refuses the body as too long. `check` may
   * throw a ConnectError about the whole body.
   */
  constructor(
    request: IncomingMessage | Http2ServerRequest,
    maxBytes: number,
    check: (bytes: Uint8Array) => void = () => {},
  ) {
    this.#check = check;
    this.#request = request;
    this.#maxBytes = maxBytes;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, undefined> {
    this.bytes = await this.#read();
    this.#check(this.bytes);
    if (this.bytes.length > 0) yield this.bytes;
  }

  #read(): Promise<Uint8Array> {
    const request = this.#request;
    const { destroyed } = request instanceof IncomingMessage ? request : request.stream;
    if (destroyed) return Promise.reject(CLIENT_GONE);
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
    const chunks: Buffer[] = [];
    let size = 0;
    const onData = (chunk: Buffer) => {
      chunks.push(chunk);
      size += chunk.length;
      if (size > this.#maxBytes) onEnd();
    };
    const onEnd = () => {
      stopReading();
      // Node also emits "end" if the client cancels its request.
      if (request.aborted) reject(CLIENT_GONE);
      else resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks));
    };
    const onGone = () => {
      stopReading();
      reject(CLIENT_GONE);
    };
    const stopReading = () => {
      request.off("data", onData).off("end", onEnd).off("close", onGone).off("error", onGone);
      request.pause();
    };
    request.on("data", onData).on("end", onEnd).on("close", onGone).on("error", onGone);
    return promise;
  }
}
