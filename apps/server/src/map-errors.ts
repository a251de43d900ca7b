import { ConnectError, type Interceptor } from "@connectrpc/connect";
import { toConnectError } from "./rpc-error.js";

/** Gives every error that a call fails with the form of the contract, also in the midst of a stream. */
export const mapErrors: Interceptor = (next) => async (request) => {
  const { signal } = request;
  try {
    const response = await next(request);
    return response.stream
      ? { ...response, message: mapStreamErrors(response.message, signal) }
      : response;
  } catch (error) {
    throw toConnectError(error);
  }
};

async function* mapStreamErrors<T>(messages: AsyncIterable<T>, signal: AbortSignal) {
  try {
    yield* messages;
  } catch (error) {
    // A stream ends with the reason why its call was aborted, which is no fault of the server's.
    throw signal.aborted ? ConnectError.from(signal.reason) : toConnectError(error);
  }
}
