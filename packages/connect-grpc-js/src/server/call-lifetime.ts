import { Code, ConnectError } from "@connectrpc/connect";

/** The part of a call that tells its end. grpc-js has it, too. */
export interface EndingCall {
  /** Whether the client has gone, or the deadline has passed. */
  readonly cancelled: boolean;
  /** As `Date.now()`. Infinity without a deadline. */
  getDeadline(): Date | number;
  /** Calls the listener when the call has ended, also if it ended well. */
  once(event: "cancelled", listener: () => void): unknown;
}

/**
 * A call that ends this shortly before its deadline counts as timed out. A timer may fire a
 * millisecond early, and a client that enforces the deadline started its clock before the request
 * arrived here.
 */
const DEADLINE_TOLERANCE_MS = 5;

/** One error for all calls that ended well. One for each would cost a stack trace each. */
const COMPLETED = new ConnectError("the call is complete", Code.Canceled);

/**
 * The deadline and the signal of one call.
 *
 * The first read makes the signal, because most unary handlers never read it. It aborts when the
 * client cancels or disconnects, when the deadline passes, when the server shuts down, and, as in
 * Connect, when the call is complete.
 */
export class CallLifetime {
  readonly #call: EndingCall;
  readonly #shutdown: Shutdown;
  readonly #arrivalMs = Date.now();
  /** Infinity without a deadline. */
  readonly #deadlineMs: number;
  #controller: AbortController | undefined;
  #completed = false;

  constructor(call: EndingCall, shutdown: Shutdown) {
    this.#call = call;
    this.#shutdown = shutdown;
    this.#deadlineMs = Number(call.getDeadline());
  }

  get signal(): AbortSignal {
    return (this.#controller ?? this.#watch()).signal;
  }

  /** Milliseconds to the deadline, negative after it. Undefined without a deadline. */
  timeoutMs(): number | undefined {
    return this.#hasDeadline() ? this.#deadlineMs - Date.now() : undefined;
  }

  /** @throws ConnectError (InvalidArgument) if the client's timeout is longer than this. */
  limitTimeout(maxTimeoutMs: number): void {
    if (this.#hasDeadline() && this.#deadlineMs - this.#arrivalMs > maxTimeoutMs) {
      const message = `the timeout must not be longer than ${maxTimeoutMs} ms`;
      throw new ConnectError(message, Code.InvalidArgument);
    }
  }

  /** The call has its status, so its end is no cancellation any more. */
  complete(): void {
    this.#completed = true;
  }

  abort(reason: ConnectError): void {
    this.#controller?.abort(reason);
  }

  /**
   * The real cause of a handler's error. Work that uses the signal often fails with an AbortError,
   * which hides the reason of the abort.
   */
  explain(error: unknown): unknown {
    const signal = this.#controller?.signal;
    const isAbort = error instanceof Error && error.name === "AbortError";
    return isAbort && signal?.aborted ? signal.reason : error;
  }

  #hasDeadline(): boolean {
    return this.#deadlineMs !== Number.POSITIVE_INFINITY;
  }

  #watch(): AbortController {
    const controller = new AbortController();
    this.#controller = controller;
    if (this.#call.cancelled) {
      controller.abort(this.#endReason());
      return controller;
    }
    // Also if the call ended well. It may come twice: at the deadline and at the end.
    this.#call.once("cancelled", () => {
      this.#shutdown.delete(this);
      controller.abort(this.#endReason());
    });
    this.#shutdown.add(this);
    return controller;
  }

  #endReason(): ConnectError {
    if (this.#completed) return COMPLETED;
    if (Date.now() >= this.#deadlineMs - DEADLINE_TOLERANCE_MS) {
      return new ConnectError("the operation timed out", Code.DeadlineExceeded);
    }
    return new ConnectError("the call was cancelled", Code.Canceled);
  }
}

/**
 * Aborts the calls in flight when the server's shutdown signal aborts.
 *
 * It has one listener for all calls: to add one per call would search the signal's list of
 * listeners each time.
 */
export class Shutdown {
  readonly #calls = new Set<CallLifetime>();
  #reason: ConnectError | undefined;

  constructor(signal: AbortSignal | undefined) {
    if (signal?.aborted) {
      this.#reason = shutdownReason(signal.reason);
    }
    signal?.addEventListener("abort", () => this.#begin(shutdownReason(signal.reason)), {
      once: true,
    });
  }

  add(call: CallLifetime): void {
    if (this.#reason !== undefined) {
      call.abort(this.#reason);
      return;
    }
    this.#calls.add(call);
  }

  delete(call: CallLifetime): void {
    this.#calls.delete(call);
  }

  #begin(reason: ConnectError): void {
    this.#reason = reason;
    for (const call of this.#calls) {
      call.abort(reason);
    }
    this.#calls.clear();
  }
}

function shutdownReason(reason: unknown): ConnectError {
  if (reason instanceof ConnectError) return reason;
  const message = "the server is shutting down";
  return new ConnectError(message, Code.Unavailable, undefined, undefined, reason);
}
