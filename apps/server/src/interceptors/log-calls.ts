import type { DescMethod, Message } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ContextValues,
  createContextKey,
  type HandlerContext,
  type Interceptor,
} from "@connectrpc/connect";
import { SESSION_TOKEN_PREFIX, SessiondError } from "@sessiond/core";
import type { Logger } from "pino";
import { type Caller, callerKey } from "../auth/caller.js";
import { provenSessionIdKey } from "../services/proven-session.js";
import { CLIENT_GONE, SERVER_STOPPING } from "../services/rpc-error.js";

/** The codes that say something is wrong with this server or what it depends on. */
const LOG_LEVELS: ReadonlyMap<Code, "error" | "warn"> = new Map([
  [Code.Internal, "error"],
  [Code.Unknown, "error"],
  [Code.DataLoss, "error"],
  [Code.Unavailable, "warn"],
]);
const MAX_ID_LENGTH = 128;
const SESSION_TOKENS = new RegExp(`${SESSION_TOKEN_PREFIX}[\\w-]*`, "g");
/** What protobuf says of JSON that is no message goes on to quote it. */
const QUOTED_JSON = /(?<= from JSON).*$/s;

/** Whether the call has come as far as `logCalls`. */
const isLoggedKey = createContextKey(false, { description: "whether the call is being logged" });

type Request = Parameters<ReturnType<Interceptor>>[0];

/**
 * Logs each call in a line once it has ended: the method, the code, how long it took, whose it was
 * and which session it was about. Never a token, and nothing of a session but
 * its id.
 */
export function logCalls(logger: Logger): Interceptor {
  const loggers = new CallerLoggers(logger);
  return (next) => async (request) => {
    const startMs = performance.now();
    const { method, contextValues } = request;
    contextValues.set(isLoggedKey, true);
    try {
      const response = await next(request);
      if (response.stream) {
        const end = (error: unknown) => {
          const logger = loggers.of(contextValues);
          const fields = callFields(method, startMs);
          if (error === undefined) logger.info({ ...fields, code: "ok" }, "call");
          else logFailure(logger, fields, error);
        };
        return { ...response, message: toEnd(response.message, request.signal, end) };
      }
      const sessionId =
        sessionIdOf(response.message) ??
        contextValues.get(provenSessionIdKey) ??
        sessionIdOf(request.message);
      const fields = { ...callFields(method, startMs), code: "ok", session_id: sessionId };
      loggers.of(contextValues).info(fields, "call");
      return response;
    } catch (error) {
      const fields = { ...callFields(method, startMs), session_id: refusedSessionId(request) };
      logFailure(loggers.of(contextValues), fields, error);
      throw error;
    }
  };
}

/**
 * Logs a call that fails before it comes to the interceptors, in the same way.
 * To be called first in connect-node's request gate. `complete` is given the
 * error before it is logged and sent.
 */
export function logEarlyFailure(
  logger: Logger,
  { signal, method, values }: HandlerContext,
  complete: (error: ConnectError) => void,
): void {
  const startMs = performance.now();
  const onAbort = () => {
    const error: unknown = signal.reason;
    if (values.get(isLoggedKey) || !(error instanceof ConnectError)) return;
    // Neither a server that stops nor a deadline that passes ends the call here.
    if (error === SERVER_STOPPING || error.code === Code.DeadlineExceeded) return;
    complete(error);
    const fields = { ...callFields(method, startMs), ...callerFields(values.get(callerKey)) };
    logFailure(logger, fields, error);
  };
  signal.addEventListener("abort", onAbort, { once: true });
}

/** Says when a stream has ended, and with which error; undefined where it came to its own end. */
async function* toEnd<T>(
  messages: AsyncIterable<T>,
  signal: AbortSignal,
  onEnd: (error: unknown) => void,
): AsyncGenerator<T> {
  let failure: { readonly error: unknown } | undefined;
  let isComplete = false;
  try {
    yield* messages;
    isComplete = true;
  } catch (error) {
    failure = { error };
    throw error;
  } finally {
    // Whoever takes the messages may also just stop.
    const stopped = signal.aborted ? signal.reason : CLIENT_GONE;
    onEnd(isComplete ? undefined : failure ? failure.error : stopped);
  }
}

function logFailure(logger: Logger, fields: object, error: unknown): void {
  const { code, rawMessage, cause } = ConnectError.from(error);
  logger[LOG_LEVELS.get(code) ?? "info"](
    {
      ...fields,
      code: codeName(code),
      error: loggable(rawMessage),
      ...(LOG_LEVELS.has(code) && { err: rootCause(cause) }),
    },
    "call",
  );
}

/**
 * Loggers that have the fields which all calls of a caller share: to write these anew for each call
 * takes as long as all else about its line. There are as many as callers that are remembered.
 */
class CallerLoggers {
  readonly #logger: Logger;
  readonly #byCaller = new WeakMap<Caller, Logger>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  of(values: ContextValues): Logger {
    const caller = values.get(callerKey);
    if (caller === undefined) return this.#logger;
    let logger = this.#byCaller.get(caller);
    if (logger === undefined) {
      logger = this.#logger.child(callerFields(caller));
      this.#byCaller.set(caller, logger);
    }
    return logger;
  }
}

function callerFields(caller: Caller | undefined) {
  return { caller: caller?.subject, issuer: caller?.issuer };
}

function callFields(method: DescMethod, startMs: number) {
  return {
    method: `${method.parent.typeName}/${method.name}`,
    duration_ms: Math.round((performance.now() - startMs) * 1000) / 1000,
  };
}

/** Of a refused request. That of nobody known is not parsed for it, and some cannot be. */
function refusedSessionId(request: Request): string | undefined {
  if (request.contextValues.get(callerKey) === undefined) return undefined;
  try {
    return sessionIdOf(request.message);
  } catch {
    return undefined;
  }
}

/** The id of the session that a request names or a response returns, if it is one. */
function sessionIdOf(message: object): string | undefined {
  const { sessionId, session, target } = message as Message & {
    readonly sessionId?: string;
    readonly session?: { readonly id: string };
    readonly target?: { readonly case?: string; readonly value?: string };
  };
  const named = target?.case === "sessionId" ? target.value : sessionId;
  const id = session?.id || named;
  return id && isSessionId(id) ? id : undefined;
}

/** Requests may hold anything where an id belongs; what callers mistake for one is the token. */
function isSessionId(id: string): boolean {
  return id.length <= MAX_ID_LENGTH && !id.startsWith(SESSION_TOKEN_PREFIX);
}

/** A message for the caller, without what it repeats of the request that is for no log. */
function loggable(message: string): string {
  return message.replace(QUOTED_JSON, "").replaceAll(SESSION_TOKENS, "[session token]");
}

/** What one of our errors was caused by; it says no more itself than its message. */
function rootCause(error: unknown): unknown {
  return error instanceof SessiondError ? error.cause : error;
}

/** As in the contract and in gRPC's documentation: `not_found`. */
function codeName(code: Code): string {
  return (Code[code] ?? "unknown").replace(/(?<!^)[A-Z]/g, "_$&").toLowerCase();
}
