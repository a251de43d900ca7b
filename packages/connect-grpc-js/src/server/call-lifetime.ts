import { Code, ConnectError } from "@connectrpc/connect";

/** The part of a grpc-js server call that says when it ends. */
interface EndingCall {
  readonly cancelled: boolean;
  getDeadline(): Date | number;
  once(event: "cancelled", listener: () => void): unknown;
}

/**
 * How long before its deadline an ended call counts as having reached it. A
 * timer may fire a millisecond early, and a client that enforces its deadline
 * itself started its clock before the request arrived here.
 */
const DEADLINE_TOLERANCE_MS = 5;

/** One error for all calls that ended well: to make one for each takes its stack. */
const COMPLETED = new ConnectError("the call is complete", Code.Canceled);

/**
 * How long one call lives: its deadline, and its signal.
 *
 * The signal is made when it is first read, because most unary handlers never
 * do. It aborts when the client cancels or goes away, when the deadline passes,
 * when the server shuts down, and, as in Connect, when the call is complete.
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

  /** Milliseconds to the deadline, negative after it; undefined without one. */
  timeoutMs(): number | undefined {
    return this.#hasDeadline() ? this.#deadlineMs - Date.now() : undefined;
  }

  /** @throws ConnectError (InvalidArgument) when the client allows itself more time than this. */
  limitTimeout(maxTimeoutMs: number): void {
    if (this.#hasDeadline() && this.#deadlineMs - this.#arrivalMs > maxTimeoutMs) {
      const message = `the timeout must not be longer than ${maxTimeoutMs} ms`;
      throw new ConnectError(message, Code.InvalidArgument);
    }
  }

  /** Tells that the call's status is decided: what ends it now is no cancellation. */
  complete(): void {
    this.#completed = true;
  }

  abort(reason: ConnectError): void {
    this.#controller?.abort(reason);
  }

  /**
   * What a handler's error stands for. Work that was given the signal often
   * fails with an AbortError that hides why; the signal knows.
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
    // grpc-js emits this once for every call, also for one that ended well.
    this.#call.once("cancelled", () => {
      this.#shutdown.delete(this);
      controller.abort(this.#endReason());
    });
    this.#shutdown.add(this);
    return controller;
  }

  #endReason(): ConnectError {
    if (this.#completed) {
      return COMPLETED;
    }
    if (Date.now() >= this.#deadlineMs - DEADLINE_TOLERANCE_MS) {
      return new ConnectError("the operation timed out", Code.DeadlineExceeded);
    }
    return new ConnectError("the call was cancelled", Code.Canceled);
  }
}

/**
 * Aborts the calls in flight when the server's shutdown signal aborts.
 *
 * It listens once, for all calls: adding a listener per call would search the
 * signal's list of listeners each time.
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
  return reason instanceof ConnectError
    ? reason
    : new ConnectError(
        "the server is shutting down",
        Code.Unavailable,
        undefined,
        undefined,
        reason,
      );
}
