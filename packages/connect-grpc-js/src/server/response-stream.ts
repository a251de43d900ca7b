import { once } from "node:events";
import type { ServerDuplexStream } from "@grpc/grpc-js";
import type { CallLifetime } from "./call-lifetime.js";
import { metadataFromHeaders, sendHeader, trySendHeader } from "./response-headers.js";
import { statusOf } from "./status.js";

/**
 * The response of a streaming call. It ends once, with the first status. Later messages and a
 * later status are dropped.
 */
export class ResponseStream {
  readonly header: Headers = new Headers();
  readonly trailer: Headers = new Headers();
  readonly #call: ServerDuplexStream<Buffer, Buffer>;
  readonly #lifetime: CallLifetime;
  #headerSent = false;
  #ended = false;

  constructor(call: ServerDuplexStream<Buffer, Buffer>, lifetime: CallLifetime) {
    this.#call = call;
    this.#lifetime = lifetime;
  }

  /**
   * Sends a message, and before the first one the headers. Waits while the queue of grpc-js is
   * full, so that a client that does not read costs no more memory than that queue.
   */
  async write(bytes: Buffer): Promise<void> {
    if (this.#ended) return;
    this.#sendHeaderOnce();
    if (!this.#call.write(bytes)) {
      // An abort of the call ends the wait, too.
      const { signal } = this.#lifetime;
      await once(this.#call, "drain", { signal }).catch(() => {});
    }
  }

  /** Ends the call with status OK. */
  end(): void {
    if (this.#ended) return;
    const trailers = metadataFromHeaders(this.trailer);
    this.#sendHeaderOnce();
    this.#ended = true;
    this.#lifetime.complete();
    this.#call.end(trailers);
  }

  /** Ends the call with an error, after the messages in the queue. */
  fail(error: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    const status = statusOf(this.#lifetime.explain(error), this.trailer);
    this.#lifetime.complete();
    if (!this.#headerSent) {
      trySendHeader(this.#call, this.header);
    }
    // grpc-js ends the call with the status in an error event.
    this.#call.emit("error", status);
  }

  #sendHeaderOnce(): void {
    if (!this.#headerSent) {
      sendHeader(this.#call, this.header);
      this.#headerSent = true;
    }
  }
}
