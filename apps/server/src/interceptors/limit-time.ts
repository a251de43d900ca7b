import type { DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { SessiondError } from "@sessiond/core";
import { LockService } from "@sessiond/proto/sessiond/v1/lock_service";

/**
 * How long a call may take. Callers are promised an answer within two seconds
 * also while the store does not answer; the rest is for the way there and back.
 *
 * The store limits each of its steps to a second. But a call may need several, or
 * wait for others on the same session first, and a store that is slow rather than
 * gone makes each of them take nearly that long.
 */
const MAX_CALL_MS = 1_700;

/** Waits for as long as its caller asked for, and itself heeds the deadline. */
const WAITS_ITSELF: DescMethod = LockService.method.acquireLock;

/**
 * Where callers say how long they would wait. grpc-js takes the one of gRPC out of
 * a call's headers, because it ends such calls by itself.
 */
const TIMEOUT_HEADERS = ["connect-timeout-ms", "grpc-timeout"];

/** A call under way. */
interface Waiting {
  /** When it must be answered, on the monotonic clock. */
  readonly latestMs: number;
  readonly reject: (error: unknown) => void;
}

/**
 * Answers every unary call in time, unless it is meant to wait: with
 * STORE_UNAVAILABLE, or DEADLINE_EXCEEDED where the caller waits no longer. The
 * work is not interrupted; whether it made a change is then not known, as with
 * every STORE_UNAVAILABLE.
 */
export function limitTime(): Interceptor {
  const limit = new TimeLimit();
  return (next) => (request) => {
    const response = next(request);
    if (request.stream || request.method === WAITS_ITSELF) return response;
    return new Promise((resolve, reject) => {
      const answered = limit.start(reject);
      response.then(
        (value) => {
          answered();
          resolve(value);
        },
        (error: unknown) => {
          answered();
          reject(error);
        },
      );
      // connect-node only tells handlers of a deadline, and would wait for them.
      if (TIMEOUT_HEADERS.some((name) => request.header.has(name))) {
        onDeadline(request.signal, reject);
      }
    });
  };
}

/**
 * Rejects what takes too long. All have the same time, so the first to have begun is the
 * first that is late, and one timer serves them all.
 */
class TimeLimit {
  readonly #waiting = new Set<Waiting>();
  #timer: NodeJS.Timeout | undefined;

  /** Starts the time of a call; the answer is to be called at its end. */
  start(reject: Waiting["reject"]): () => void {
    const call = { latestMs: performance.now() + MAX_CALL_MS, reject };
    this.#waiting.add(call);
    this.#timer ??= this.#checkIn(MAX_CALL_MS);
    return () => this.#waiting.delete(call);
  }

  /** The timer outlives the calls, and must not keep a process that has stopped. */
  #checkIn(ms: number): NodeJS.Timeout {
    return setTimeout(() => this.#check(), ms).unref();
  }

  #check(): void {
    this.#timer = undefined;
    const nowMs = performance.now();
    for (const call of this.#waiting) {
      if (call.latestMs > nowMs) {
        this.#timer = this.#checkIn(call.latestMs - nowMs);
        return;
      }
      this.#waiting.delete(call);
      call.reject(tookTooLong());
    }
  }
}

/** A server that stops lets its calls finish, and a caller that is gone hears nothing. */
function onDeadline(signal: AbortSignal, listener: (error: ConnectError) => void): void {
  const onAbort = () => {
    const { reason } = signal;
    if (reason instanceof ConnectError && reason.code === Code.DeadlineExceeded) listener(reason);
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort);
}

function tookTooLong(): SessiondError {
  return new SessiondError(
    "STORE_UNAVAILABLE",
    `the session store is unavailable: it took more than ${MAX_CALL_MS} ms`,
  );
}
