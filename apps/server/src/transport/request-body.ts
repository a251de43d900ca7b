import { IncomingMessage } from "node:http";
import type { Http2ServerRequest } from "node:http2";
import { createContextKey } from "@connectrpc/connect";
import { CLIENT_GONE } from "../services/rpc-error.js";

/** The body of the request that makes a call, as far as it was read. */
export const requestBodyKey = createContextKey<RequestBody | undefined>(undefined, {
  description: "the body of the request",
});

/**
 * Reads a request whole, when it is asked for the first time: every call takes one message. Node's
 * own iterator of a request takes as long as all else about a small one.
 */
export class RequestBody implements AsyncIterable<Uint8Array> {
  readonly #request: IncomingMessage | Http2ServerRequest;
  readonly #maxBytes: number;
  /** What was read; empty before. */
  bytes: Uint8Array = new Uint8Array();

  /** A body of more than `maxBytes` is read no further; its reader sees that it is too long. */
  constructor(request: IncomingMessage | Http2ServerRequest, maxBytes: number) {
    this.#request = request;
    this.#maxBytes = maxBytes;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, undefined> {
    this.bytes = await this.#read();
    if (this.bytes.length > 0) yield this.bytes;
  }

  #read(): Promise<Uint8Array> {
    const request = this.#request;
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
      // A client that takes its request back ends it, too, as Node has it.
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
    if (isGone(request)) return Promise.reject(CLIENT_GONE);
    request.on("data", onData).on("end", onEnd).on("close", onGone).on("error", onGone);
    return promise;
  }
}

/** Whether the client left before its request was read. */
function isGone(request: IncomingMessage | Http2ServerRequest): boolean {
  return request instanceof IncomingMessage ? request.destroyed : request.stream.destroyed;
}
