import type { DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { SessiondError } from "@sessiond/core";
import { LockService } from "@sessiond/proto/sessiond/v1/lock_service";
import { Link, LinkedList } from "../edge/linked-list.js";

/**
 * We promise callers an answer within two seconds even if the store does not answer. The rest is
 * for the network.
 *
 * The store limits each step to a second. But a call may need several steps, or wait for other
 * calls on the same session. If the store is slow, each of them takes nearly a second.
 */
const MAX_CALL_MS = 1_700;

/** Waits as long as its caller asked, and obeys the deadline itself. */
const WAITS_ITSELF: DescMethod = LockService.method.acquireLock;

/** The caller's deadline. The gRPC port hides the header, and ends late calls itself. */
const TIMEOUT_HEADERS = ["connect-timeout-ms", "grpc-timeout"];

/** A call that waits for its answer. */
class Waiting extends Link {
  /** On the monotonic clock. */
  readonly latestMs = performance.now() + MAX_CALL_MS;
  readonly reject: (error: unknown) => void;

  constructor(reject: (error: unknown) => void) {
    super();
    this.reject = reject;
  }
}

/**
 * Ends every unary call that takes too long: with STORE_UNAVAILABLE, or with DEADLINE_EXCEEDED at
 * the caller's own deadline. AcquireLock may wait longer. The work goes on, so nobody knows whether
 * it made its change, as with every STORE_UNAVAILABLE.
 */
export function limitTime(): Interceptor {
  const limit = new TimeLimit();
  return (next) => (request) => {
    const response = next(request);
    if (request.stream || request.method === WAITS_ITSELF) return response;
    return new Promise((resolve, reject) => {
      const call = limit.start(reject);
      response.then(
        (answer) => {
          call.remove();
          resolve(answer);
        },
        (error) => {
          call.remove();
          reject(error);
        },
      );
      // connect-node only aborts the signal at a deadline, and goes on waiting for the handler.
      if (TIMEOUT_HEADERS.some((name) => request.header.has(name))) {
        onDeadline(request.signal, reject);
      }
    });
  };
}

/** Rejects late calls. All have the same limit, so the oldest is late first: one timer will do. */
class TimeLimit {
  readonly #waiting = new LinkedList<Waiting>();
  #timer: NodeJS.Timeout | undefined;

  /** Starts a call's time, which lasts until the call is removed. */
  start(reject: Waiting["reject"]): Waiting {
    const call = new Waiting(reject);
    this.#waiting.add(call);
    this.#timer ??= this.#checkIn(MAX_CALL_MS);
    return call;
  }

  /** The timer outlives the calls, so it must not keep the process alive. */
  #checkIn(ms: number): NodeJS.Timeout {
    return setTimeout(() => this.#check(), ms).unref();
  }

  #check(): void {
    this.#timer = undefined;
    const nowMs = performance.now();
    for (let call = this.#waiting.first; call !== undefined; call = this.#waiting.first) {
      if (call.latestMs > nowMs) {
        this.#timer = this.#checkIn(call.latestMs - nowMs);
        return;
      }
      call.remove();
      const message = `the session store is unavailable: it took more than ${MAX_CALL_MS} ms`;
      call.reject(new SessiondError("STORE_UNAVAILABLE", message));
    }
  }
}

/** Ignores other aborts: a stopping server lets calls finish, and a lost client hears nothing. */
function onDeadline(signal: AbortSignal, listener: (error: ConnectError) => void): void {
  const onAbort = () => {
    const { reason } = signal;
    if (reason instanceof ConnectError && reason.code === Code.DeadlineExceeded) listener(reason);
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort);
}
