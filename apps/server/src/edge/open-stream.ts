import { constants, type ServerHttp2Stream } from "node:http2";
import type { Connection } from "./connection.js";
import type { CutReason } from "./cut-reasons.js";
import { Link } from "./linked-list.js";
import { Loan } from "./shared-pool.js";

/** A request that takes longer to come is stalled. Nearly every one comes at once. */
export const STALLED_MS = 500;
/** After its answer, a request may go on for this time. Then the client is told to stop. */
const AFTER_ANSWER_MS = 1_000;

/** The call on a stream. */
export interface StreamUser {
  /** The request takes its time to come. */
  onStalled(): void;
  /** The stream has closed. */
  onClosed(): void;
}

/** One HTTP/2 stream, and what it holds. Only the edge makes them. */
export class OpenStream extends Link {
  readonly connection: Connection;
  /** The bytes of its request, and of its answer until they are taken. */
  readonly memory: Loan;
  /** Hears what becomes of the stream. */
  user: StreamUser | undefined;
  readonly #stream: ServerHttp2Stream;
  readonly #openedMs = performance.now();
  #answeredMs: number | undefined;
  #isCut = false;
  #isTimed = false;
  #isStuck = false;
  #isStalled = false;

  constructor(stream: ServerHttp2Stream, connection: Connection) {
    super();
    this.#stream = stream;
    this.connection = connection;
    this.memory = new Loan(connection.memory);
  }

  /** The stream has closed. */
  end(): void {
    this.remove();
    this.memory.end();
    this.user?.onClosed();
  }

  /** Resets a stream that is too slow, and says why. */
  sweep(nowMs: number): CutReason | undefined {
    const stream = this.#stream;
    if (this.#isCut) {
      // Its reset could not be sent, for its client takes nothing at all.
      this.connection.destroy();
      return undefined;
    }
    if (stream.writableFinished) {
      this.#answeredMs ??= nowMs;
      if (nowMs - this.#answeredMs < AFTER_ANSWER_MS) return undefined;
      // RFC 9113, 8.1: the answer is complete, and we need no more of the request.
      // Node closes a stream only when everything that came over it has been read.
      setImmediate(() => stream.destroy());
      return this.#cut(constants.NGHTTP2_NO_ERROR, "endless_request");
    }
    if (this.#isStuck) return this.#cut(constants.NGHTTP2_CANCEL, "answer_not_taken");
    if (stream.writableLength > 0) this.#timeAnswer();
    const hasRequest = stream.readableEnded || stream.endAfterHeaders;
    if (!hasRequest && !this.#isStalled && nowMs - this.#openedMs >= STALLED_MS) {
      this.#isStalled = true;
      this.user?.onStalled();
    }
    if (!hasRequest && nowMs - this.#openedMs >= this.connection.limits.requestTimeoutMs) {
      return this.#cut(constants.NGHTTP2_CANCEL, "slow_request");
    }
    return undefined;
  }

  /**
   * Node's timeout of a stream knows whether a long write makes progress, but only for all streams of
   * its connection together. What a client leaves unread beside a stream that it reads is bounded by
   * its connection's share of the memory.
   */
  #timeAnswer(): void {
    if (this.#isTimed) return;
    this.#isTimed = true;
    this.#stream.setTimeout(this.connection.limits.requestTimeoutMs);
    // As a callback of `setTimeout`, it would be called once. The stream may be idle then.
    this.#stream.on("timeout", () => {
      this.#isStuck = this.#stream.writableLength > 0;
    });
  }

  #cut(code: number, reason: CutReason): CutReason {
    this.#isCut = true;
    this.#stream.close(code);
    return reason;
  }
}
