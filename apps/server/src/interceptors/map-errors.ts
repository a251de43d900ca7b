import { ConnectError, type Interceptor } from "@connectrpc/connect";
import { SessiondError } from "@sessiond/core";
import { CLIENT_GONE, toConnectError } from "../services/rpc-error.js";

/** Gives every error the contract's form, also in the middle of a stream. */
export const mapErrors: Interceptor = (next) => async (request) => {
  try {
    const response = await next(request);
    return response.stream
      ? { ...response, message: mapStreamErrors(response.message, request.signal) }
      : response;
  } catch (error) {
    throw toConnectError(isAbort(error, request) ? CLIENT_GONE : error);
  }
};

/**
 * Whether the handler stopped waiting because its client left: every other abort has a ConnectError
 * as its reason. The signal is created on first read, so calls that succeed never read it.
 */
function isAbort(error: unknown, request: { readonly signal: AbortSignal }): boolean {
  const isOurs = error instanceof ConnectError || error instanceof SessiondError;
  return !isOurs && request.signal.aborted && error === request.signal.reason;
}

async function* mapStreamErrors<T>(messages: AsyncIterable<T>, signal: AbortSignal) {
  try {
    yield* messages;
  } catch (error) {
    // An aborted stream ends with the reason of the abort, which is no fault of the server.
    throw signal.aborted ? ConnectError.from(signal.reason) : toConnectError(error);
  }
}
