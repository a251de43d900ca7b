import type { Interceptor } from "@connectrpc/connect";
import { toConnectError } from "./rpc-error.js";

/** Gives every error that a call fails with the form of the contract. */
export const mapErrors: Interceptor = (next) => async (request) => {
  try {
    return await next(request);
  } catch (error) {
    throw toConnectError(error);
  }
};
