import type { Message } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ContextValues,
  createContextKey,
  type HandlerContext,
  type Interceptor,
} from "@connectrpc/connect";
import { SessiondError, withoutSecrets } from "@sessiond/core";
import type { Logger } from "pino";
import { type Caller, callerKey } from "../auth/caller.js";
import { claimedFields } from "../auth/token-refusals.js";
import { withoutTokens } from "../observability/tokens-in-text.js";
import { traceFields } from "../observability/tracing.js";
import { provenSessionIdKey } from "../services/proven-session.js";
import { CLIENT_GONE, SERVER_STOPPING } from "../services/rpc-error.js";
import { clientCertificateKey } from "../tls/client-certificate.js";
import type { Admittance } from "./admit.js";
import { LineBudget } from "./line-budget.js";

/** The codes that mean a fault of this server, its store or its issuers. */
const LOG_LEVELS: ReadonlyMap<Code, "error" | "warn"> = new Map([
  [Code.Internal, "error"],
  [Code.Unknown, "error"],
  [Code.DataLoss, "error"],
  [Code.Unavailable, "warn"],
]);
/** As the server makes ids, and as callers may choose them. */
const GENERATED_ID = /^[\da-f]{64}$/;
const CHOSEN_ID = /^[\w.~:@-]{1,128}$/;
/** Protobuf's error about malformed JSON quotes the request. */
const QUOTED_JSON = /(?<= from JSON).*$/s;

/** Both ports have the same logger. */
const budgets = new WeakMap<Logger, LineBudget>();

const isLoggedKey = createContextKey(false, { description: "whether the call is being logged" });

type Request = Parameters<ReturnType<Interceptor>>[0];

/**
 * Logs one line for each call when it has ended: method, code, duration, caller, client certificate,
 * session id and trace ids. Never a token, and nothing else about a session.
 */
export function logCalls(logger: Logger): Interceptor {
  const loggerOf = callerLoggers(logger);
  return (next) => async (request) => {
    const startMs = performance.now();
    const { contextValues } = request;
    contextValues.set(isLoggedKey, true);
    try {
      const response = await next(request);
      if (response.stream) {
        const end = (error: unknown) => {
          const fields = callFields(request, startMs);
          if (error !== undefined) logFailure(loggerOf(contextValues), fields, error);
          else loggerOf(contextValues).info({ ...fields, code: "ok" }, "call");
        };
        return { ...response, message: toEnd(response.message, request.signal, end) };
      }
      const { revoked } = response.message as { readonly revoked?: boolean };
      const sessionId =
        sessionIdOf(response.message) ??
        contextValues.get(provenSessionIdKey) ??
        (revoked ? sessionIdOf(request.message) : unprovenSessionId(request.message));
      const fields = { ...callFields(request, startMs), code: "ok", session_id: sessionId };
      loggerOf(contextValues).info(fields, "call");
      return response;
    } catch (error) {
      const fields = { ...callFields(request, startMs), session_id: refusedSessionId(request) };
      logFailure(loggerOf(contextValues), fields, error);
      throw error;
    }
  };
}

/**
 * Logs a call that fails before the interceptors, in the same form. Call it first in connect-node's
 * request gate. `complete` may change the error before it is logged and sent.
 */
export function logEarlyFailure(
  logger: Logger,
  { signal, method, values, requestHeader: header }: HandlerContext,
  complete: (error: ConnectError) => void,
): void {
  const startMs = performance.now();
  const onAbort = () => {
    const error: unknown = signal.reason;
    if (values.get(isLoggedKey) || !(error instanceof ConnectError)) return;
    // A stopping server and a passed deadline do not end the call here.
    if (error === SERVER_STOPPING || error.code === Code.DeadlineExceeded) return;
    complete(error);
    const call = callFields({ method, contextValues: values, header }, startMs);
    const fields = { ...call, ...callerFields(values.get(callerKey)) };
    logFailure(logger, fields, error);
  };
  signal.addEventListener("abort", onAbort, { once: true });
}

/** Logs a call that a port has refused before the interceptors, in the same form. */
export function logRefusal(
  logger: Logger,
  call: Admittance,
  startMs: number,
  error: ConnectError,
): void {
  const caller = callerFields(call.contextValues.get(callerKey));
  logFailure(logger, { ...callFields(call, startMs), ...caller }, error);
}

/** Calls `onEnd` when a stream has ended: with its error, or undefined if it is complete. */
export async function* toEnd<T>(
  messages: AsyncIterable<T>,
  signal: AbortSignal,
  onEnd: (error: unknown) => void,
): AsyncGenerator<T> {
  let end: { readonly error: unknown } | undefined;
  try {
    yield* messages;
    end = { error: undefined };
  } catch (error) {
    end = { error };
    throw error;
  } finally {
    // Without an end, the consumer has stopped reading.
    end ??= { error: signal.aborted ? signal.reason : CLIENT_GONE };
    onEnd(end.error);
  }
}

function logFailure(logger: Logger, fields: object, error: unknown): void {
  const { code, rawMessage, cause } = ConnectError.from(error);
  const skipped = code === Code.Unauthenticated ? budgetOf(logger).take() : 0;
  if (skipped === undefined) return;
  const isStoreFull = cause instanceof SessiondError && cause.detail === "store_full";
  // Other things that are full are the callers' doing. Of a full store, its operator must hear.
  const level = isStoreFull ? "warn" : LOG_LEVELS.get(code);
  // Our own error as the cause says no more than its message.
  const err = cause instanceof SessiondError ? cause.cause : cause;
  const failure = {
    ...{ code: codeName(code), error: loggable(rawMessage) },
    ...(skipped > 0 && { lines_skipped: skipped }),
    ...(level && { err }),
  };
  logger[level ?? "info"]({ ...fields, ...claimedFields(cause), ...failure }, "call");
}

function budgetOf(logger: Logger): LineBudget {
  const budget = budgets.get(logger) ?? new LineBudget();
  budgets.set(logger, budget);
  return budget;
}

/**
 * One logger for each caller, with the caller's fields: to serialize these for each call takes as
 * long as the rest of the line. Lives as long as the access token verifier remembers the caller.
 */
function callerLoggers(logger: Logger): (values: ContextValues) => Logger {
  const byCaller = new WeakMap<Caller, Logger>();
  return (values) => {
    const caller = values.get(callerKey);
    if (caller === undefined) return logger;
    const callerLogger = byCaller.get(caller) ?? logger.child(callerFields(caller));
    byCaller.set(caller, callerLogger);
    return callerLogger;
  };
}

function callerFields(caller: Caller | undefined) {
  const { subject, issuer, namespace } = caller ?? {};
  return { caller: subject, issuer, ...(namespace && { namespace }) };
}

function callFields({ method, contextValues, header }: Admittance, startMs: number) {
  const fields = {
    method: `${method.parent.typeName}/${method.name}`,
    duration_ms: Math.round((performance.now() - startMs) * 1000) / 1000,
  };
  const certificate = contextValues.get(clientCertificateKey);
  if (certificate !== undefined) Object.assign(fields, { client_cert: certificate });
  const ids = traceFields(contextValues, header);
  return ids === undefined ? fields : { ...fields, ...ids };
}

/**
 * The session id that a refused request names. Undefined if the caller is unknown (we parse nothing
 * for strangers) or the request cannot be parsed.
 */
function refusedSessionId(request: Request): string | undefined {
  if (request.contextValues.get(callerKey) === undefined) return undefined;
  try {
    return unprovenSessionId(request.message);
  } catch {
    return undefined;
  }
}

/**
 * The session id that a request names, if it cannot be a secret. No answer shows that there is such a
 * session, so it may be anything: callers confuse an id with a token, or with a credential of theirs.
 */
function unprovenSessionId(message: object): string | undefined {
  const id = sessionIdOf(message);
  if (id === undefined || GENERATED_ID.test(id)) return id;
  return CHOSEN_ID.test(id) && withoutSecrets(id) === id ? id : undefined;
}

/** The session id that a request names or a response returns. */
function sessionIdOf(message: object): string | undefined {
  const { sessionId, session, target } = message as Message & {
    readonly sessionId?: string;
    readonly session?: { readonly id: string };
    readonly target?: { readonly case?: string; readonly value?: string };
  };
  const id = session?.id || (target?.case === "sessionId" ? target.value : sessionId);
  return id || undefined;
}

/** An error message without the parts of the request that must not get into the log. */
function loggable(message: string): string {
  return withoutTokens(message.replace(QUOTED_JSON, ""));
}

/** The spelling of the contract and of gRPC's documentation: `not_found`. */
function codeName(code: Code): string {
  return (Code[code] ?? "unknown").replace(/(?<!^)[A-Z]/g, "_$&").toLowerCase();
}
