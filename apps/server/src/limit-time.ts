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

/**
 * Answers every unary call in time, unless it is meant to wait: with
 * STORE_UNAVAILABLE, or DEADLINE_EXCEEDED where the caller waits no longer. The
 * work is not interrupted; whether it made a change is then not known, as with
 * every STORE_UNAVAILABLE.
 */
export const limitTime: Interceptor = (next) => (request) => {
  const response = next(request);
  if (request.stream || request.method === WAITS_ITSELF) return response;
  const { promise, resolve, reject } = Promise.withResolvers<Awaited<typeof response>>();
  const timer = setTimeout(() => reject(tookTooLong()), MAX_CALL_MS);
  response.then(resolve, reject).finally(() => clearTimeout(timer));
  // connect-node only tells handlers of a deadline, and would wait for them.
  if (TIMEOUT_HEADERS.some((name) => request.header.has(name))) {
    onDeadline(request.signal, reject);
  }
  return promise;
};

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
