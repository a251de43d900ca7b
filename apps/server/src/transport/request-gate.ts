import type { DescMessage } from "@bufbuild/protobuf";
import { Code, type ConnectError, type HandlerContext } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { AccessTokenVerifier } from "../auth/access-token.js";
import { callerKey } from "../auth/caller.js";
import { callerOf } from "../interceptors/authenticate.js";
import { checkPermission } from "../interceptors/authorize.js";
import { logEarlyFailure } from "../interceptors/log-calls.js";
import { fieldOfJson } from "../services/malformed-field.js";
import { describeMalformed, toConnectError } from "../services/rpc-error.js";
import type { JsonDecoder } from "./json-decoder.js";

/**
 * What connect-node asks before it reads a request. It parses requests before
 * the interceptors run, where the gRPC port leaves that to the last of them. So
 * this port needs them to be preceded: nobody unknown gets anything parsed, and
 * a request that cannot be parsed is answered and logged as on the other port.
 */
export function createRequestGate(options: {
  readonly logger: Logger;
  readonly verifier: AccessTokenVerifier;
  /** The one that connect-node decodes with. */
  readonly jsonDecoder: JsonDecoder;
}): (context: HandlerContext) => Promise<void> {
  const { logger, verifier, jsonDecoder } = options;
  return async (context) => {
    let isOpen = false;
    // Connect sends the very error that it aborts the call's signal with, so that
    // its own can be given the form of the contract there.
    logEarlyFailure(logger, context, (error) => {
      if (isOpen) completeReadError(error, context.method.input, jsonDecoder);
    });
    try {
      const caller = await callerOf(context.requestHeader, verifier);
      context.values.set(callerKey, caller);
      checkPermission(context.method, caller);
    } catch (error) {
      throw toConnectError(error);
    }
    isOpen = true;
  };
}

/**
 * Bytes that are no message are the caller's mistake, where Connect says INTERNAL. Of these nothing
 * is left to name the field by; JSON is still there.
 */
function completeReadError(error: ConnectError, desc: DescMessage, decoder: JsonDecoder): void {
  if (error.code === Code.Internal) Object.assign(error, { code: Code.InvalidArgument });
  if (error.code !== Code.InvalidArgument) return;
  const json = decoder.take();
  describeMalformed(error, json && fieldOfJson(desc, json, error.rawMessage));
}
