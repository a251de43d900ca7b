import { Code, type ConnectError, type HandlerContext } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { AccessTokenVerifier } from "../auth/access-token.js";
import { callerKey } from "../auth/caller.js";
import { admit } from "../interceptors/admit.js";
import { logEarlyFailure } from "../interceptors/log-calls.js";
import type { Audit } from "../observability/audit.js";
import type { PortMetrics } from "../observability/rpc-metrics.js";
import { callSpanKey, type Tracing } from "../observability/tracing.js";
import { InexactNumber } from "../services/exact-numbers.js";
import {
  fieldOfBytes,
  fieldOfJson,
  type MalformedField,
  pathOfKeys,
} from "../services/malformed-field.js";
import { describeMalformed, toConnectError, withoutQuotedSecrets } from "../services/rpc-error.js";
import { httpClientKey } from "./http-client.js";
import type { RefusedCalls } from "./refused-calls.js";
import { ENVELOPE_BYTES, isEnveloped, requestBodyKey } from "./request-body.js";

/**
 * connect-node reads and parses a request before the interceptors run. This gate authenticates and
 * authorizes the call first, so strangers cannot make the server parse. It also answers, logs,
 * traces and counts a malformed request as the gRPC port does.
 */
export function createRequestGate(options: {
  readonly logger: Logger;
  readonly verifier: AccessTokenVerifier;
  readonly audit: Audit;
  readonly tracing?: Tracing | undefined;
  readonly metrics: PortMetrics;
  /** By default refusals are sent at once. */
  readonly refusedCalls?: RefusedCalls | undefined;
}): (context: HandlerContext) => Promise<void> {
  const { logger, verifier, audit, tracing, metrics } = options;
  return async (context) => {
    const startMs = performance.now();
    let isOpen = false;
    const { requestHeader: header, method, values: contextValues } = context;
    const system = context.protocolName === "connect" ? "connectrpc" : "grpc";
    const span = tracing?.startCall({ method, header, system });
    contextValues.set(callSpanKey, span);
    // Connect sends the same error object that it aborts the signal with. So we can give its own
    // errors the contract's form here.
    logEarlyFailure(logger, context, (error) => {
      withoutQuotedSecrets(error);
      if (isOpen) completeReadError(error, context);
      span?.end(error);
      metrics.of(context.method).ended(error.code, startMs);
      metrics.refused(error.cause);
    });
    const client = contextValues.get(httpClientKey);
    try {
      const admitCall = () => admit({ header, method, contextValues }, verifier, audit);
      await (span ? span.run(admitCall) : admitCall());
    } catch (error) {
      if (contextValues.get(callerKey) === undefined) await turnOf(context, options.refusedCalls);
      throw toConnectError(error);
    }
    client?.welcome();
    isOpen = true;
  };
}

/** Waits until a stranger's call may be refused, or its client has gone. */
function turnOf(
  { signal }: HandlerContext,
  refusedCalls: RefusedCalls | undefined,
): Promise<void> | undefined {
  if (refusedCalls === undefined) return undefined;
  return new Promise<void>((resolve) => {
    const takeBack = refusedCalls.pace(resolve);
    signal.addEventListener("abort", () => {
      takeBack();
      resolve();
    });
  });
}

/** Malformed bytes are the caller's mistake. Connect calls them INTERNAL. */
function completeReadError(error: ConnectError, context: HandlerContext): void {
  if (error.code === Code.Internal) Object.assign(error, { code: Code.InvalidArgument });
  if (error.code !== Code.InvalidArgument) return;
  if (error.cause instanceof InexactNumber) describeInexact(error, error.cause, context);
  else describeMalformed(error, malformedField(context));
}

/** The log cuts what follows "from JSON", so it does not learn the keys of a session's data. */
function describeInexact(error: ConnectError, { path }: InexactNumber, context: HandlerContext) {
  const field = pathOfKeys(context.method.input, path);
  const why = `${field} has more digits than a double can hold; send it as a string`;
  Object.assign(error, { rawMessage: `${error.rawMessage}: ${why}` });
  describeMalformed(error, { path: field, isKnown: false });
}

/** The field that kept a request from being parsed, unless the request is compressed. */
function malformedField(context: HandlerContext): MalformedField | undefined {
  const { method, requestHeader, values } = context;
  const body = values.get(requestBodyKey);
  const type = requestHeader.get("content-type") ?? "";
  if (body === undefined || requestHeader.has("content-encoding")) return undefined;
  const message = isEnveloped(type) ? body.bytes.subarray(ENVELOPE_BYTES) : body.bytes;
  return type.includes("json")
    ? fieldOfJson(method.input, message)
    : fieldOfBytes(method.input, message);
}
