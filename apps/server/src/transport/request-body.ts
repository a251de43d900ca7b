import { IncomingMessage } from "node:http";
import { createContextKey } from "@connectrpc/connect";
import type { Loan } from "../edge/shared-pool.js";
import { CLIENT_GONE, toConnectError } from "../services/rpc-error.js";
import type { Request } from "./http-messages.js";
import { tooMuchAtOnce } from "./too-much.js";

/** Whether messages of this content type stand in envelopes. */
export function isEnveloped(type: string): boolean {
  return /^application\/(?:grpc|connect\+)/.test(type);
}

/** The body of a call's request. */
export const requestBodyKey = createContextKey<RequestBody | undefined>(undefined, {
  description: "the body of the request",
});

/** Bytes that arrive in pieces of any size, in memory of about twice their size at most. */
class GrowingBytes {
  #buffer: Buffer = Buffer.alloc(0);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  append(chunk: Buffer): void {
    const length = this.#length + chunk.length;
    if (this.#length === 0) {
      // Nearly every request is one chunk, which needs no copy.
      this.#buffer = chunk;
    } else {
      if (length > this.#buffer.length) this.#grow(length);
      chunk.copy(this.#buffer, this.#length);
    }
    this.#length = length;
  }

  toBytes(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  #grow(length: number): void {
    const grown = Buffer.allocUnsafe(2 * length);
    this.#buffer.copy(grown, 0, 0, this.#length);
    this.#buffer = grown;
  }
}

interface RequestBodyOptions {
  /** After more than this, the body is not read on. Connect then refuses it as too long. */
  readonly maxBytes: number;
  /** The bytes are charged to it. Where it has no room, the read rejects with OVERLOADED. */
  readonly memory: Pick<Loan, "take" | "give">;
  /** May throw a ConnectError about the whole body. */
  readonly check: (bytes: Uint8Array) => void;
}

/**
 * Reads a request in one piece on the first read: every call has one message. Node's own iterator
 * takes as long as the rest of a small request.
 */
export class RequestBody implements AsyncIterable<Uint8Array> {
  readonly #request: Request;
  readonly #options: RequestBodyOptions;
  /** Empty before the body has been read. */
  bytes: Uint8Array = new Uint8Array();

  constructor(request: Request, options: RequestBodyOptions) {
    this.#request = request;
    this.#options = options;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, undefined> {
    const bytes = await this.read();
    if (bytes.length > 0) yield bytes;
  }

  /** Rejects with a ConnectError. */
  async read(): Promise<Uint8Array> {
    this.bytes = await this.#receive();
    this.#options.check(this.bytes);
    return this.bytes;
  }

  #receive(): Promise<Uint8Array> {
    const request = this.#request;
    const { destroyed } = request instanceof IncomingMessage ? request : request.stream;
    if (destroyed) return Promise.reject(CLIENT_GONE);
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
    const { maxBytes, memory } = this.#options;
    const body = new GrowingBytes();
    const onData = (chunk: Buffer) => {
      if (!memory.take(chunk.length)) {
        stopReading();
        // Or there might be no room for the answer, either.
        memory.give(body.length);
        reject(toConnectError(tooMuchAtOnce("buffered_bytes")));
        return;
      }
      body.append(chunk);
      if (body.length > maxBytes) onEnd();
    };
    const onEnd = () => {
      stopReading();
      // Node also emits "end" if the client cancels its request.
      if (request.aborted) reject(CLIENT_GONE);
      else resolve(body.toBytes());
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
