import type { ServerDuplexStream } from "@grpc/grpc-js";
import type { CallLifetime } from "./call-lifetime.js";
import { metadataFromHeaders, sendHeader, trySendHeader } from "./metadata.js";
import { statusOf } from "./status.js";

/**
 * The sending half of a streaming call. It ends once, with the first status; a
 * later one, and messages after it, go nowhere.
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
   * Sends a message, and the headers before the first. Waits while grpc-js
   * holds as many messages as it may, so that a client that does not read costs
   * no more memory than those.
   */
  async write(bytes: Buffer): Promise<void> {
    if (this.#ended) {
      return;
    }
    this.#sendHeaderOnce();
    if (!this.#call.write(bytes)) {
      await this.#drained();
    }
  }

  /** Ends the call with status OK. */
  end(): void {
    if (this.#ended) {
      return;
    }
    const trailers = metadataFromHeaders(this.trailer);
    this.#sendHeaderOnce();
    this.#ended = true;
    this.#lifetime.complete();
    this.#call.end(trailers);
  }

  /** Ends the call with an error, after the messages that were written before. */
  fail(error: unknown): void {
    if (this.#ended) {
      return;
    }
    this.#ended = true;
    const status = statusOf(this.#lifetime.explain(error), this.trailer);
    this.#lifetime.complete();
    if (!this.#headerSent) {
      trySendHeader(this.#call, this.header);
    }
    // grpc-js takes an error event for the status to end with.
    this.#call.emit("error", status);
  }

  #sendHeaderOnce(): void {
    if (!this.#headerSent) {
      sendHeader(this.#call, this.header);
      this.#headerSent = true;
    }
  }

  #drained(): Promise<void> {
    const call = this.#call;
    const { signal } = this.#lifetime;
    return new Promise((resolve) => {
      const done = () => {
        call.off("drain", done);
        signal.removeEventListener("abort", done);
        resolve();
      };
      call.once("drain", done);
      signal.addEventListener("abort", done, { once: true });
    });
  }
}
