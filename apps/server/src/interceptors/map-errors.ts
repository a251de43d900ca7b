import { ConnectError, type Interceptor } from "@connectrpc/connect";
import { SessiondError } from "@sessiond/core";
import { CLIENT_GONE, toConnectError } from "../services/rpc-error.js";

/** Gives every error that a call fails with the form of the contract, also in the midst of a stream. */
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
 * Whether what failed had only been waiting, and was told to stop. Where that says more than
 * that the client is gone, it is a ConnectError. The signal is made when it is first read, so
 * nobody reads it of a call that goes well.
 */
function isAbort(error: unknown, request: { readonly signal: AbortSignal }): boolean {
  const isOurs = error instanceof ConnectError || error instanceof SessiondError;
  return !isOurs && request.signal.aborted && error === request.signal.reason;
}

async function* mapStreamErrors<T>(messages: AsyncIterable<T>, signal: AbortSignal) {
  try {
    yield* messages;
  } catch (error) {
    // A stream ends with the reason why its call was aborted, which is no fault of the server's.
    throw signal.aborted ? ConnectError.from(signal.reason) : toConnectError(error);
  }
}
