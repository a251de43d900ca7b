import { Code, type ConnectError, type HandlerContext } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { AccessTokenVerifier } from "../auth/access-token.js";
import { admit } from "../interceptors/admit.js";
import { logEarlyFailure } from "../interceptors/log-calls.js";
import { fieldOfBytes, fieldOfJson, type MalformedField } from "../services/malformed-field.js";
import { describeMalformed, toConnectError } from "../services/rpc-error.js";
import { requestBodyKey } from "./request-body.js";

/** A stream's message comes after a byte of flags and four of its length. */
const ENVELOPE_BYTES = 5;

/**
 * connect-node reads and parses a request before the interceptors run. This gate authenticates
 * and authorizes the call first, so that strangers cannot make the server read; and it answers
 * and logs a request that cannot be parsed as the gRPC port does.
 */
export function createRequestGate(options: {
  readonly logger: Logger;
  readonly verifier: AccessTokenVerifier;
}): (context: HandlerContext) => Promise<void> {
  const { logger, verifier } = options;
  return async (context) => {
    let isOpen = false;
    // Connect sends the very error that it aborts the call's signal with, so that
    // its own can be given the form of the contract there.
    logEarlyFailure(logger, context, (error) => {
      if (isOpen) completeReadError(error, context);
    });
    try {
      const { requestHeader: header, method, values: contextValues } = context;
      await admit({ header, method, contextValues }, verifier);
    } catch (error) {
      throw toConnectError(error);
    }
    isOpen = true;
  };
}

/** Bytes that are no message are the caller's mistake, where Connect says INTERNAL. */
function completeReadError(error: ConnectError, context: HandlerContext): void {
  if (error.code === Code.Internal) Object.assign(error, { code: Code.InvalidArgument });
  if (error.code !== Code.InvalidArgument) return;
  describeMalformed(error, malformedField(context));
}

/** The field that kept a request from being parsed, unless the request is compressed. */
function malformedField({
  method,
  requestHeader,
  values,
}: HandlerContext): MalformedField | undefined {
  const body = values.get(requestBodyKey);
  const type = requestHeader.get("content-type") ?? "";
  if (body === undefined || requestHeader.has("content-encoding")) return undefined;
  const isEnveloped = /^application\/(?:grpc|connect\+)/.test(type);
  const message = isEnveloped ? body.bytes.subarray(ENVELOPE_BYTES) : body.bytes;
  return type.includes("json")
    ? fieldOfJson(method.input, message)
    : fieldOfBytes(method.input, message);
}
