import type { Message } from "@bufbuild/protobuf";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { SessiondError } from "@sessiond/core";
import type { Logger } from "pino";
import { callerKey } from "./authenticate.js";

/** The codes that say something is wrong with this server or what it depends on. */
const LOG_LEVELS: ReadonlyMap<Code, "error" | "warn"> = new Map([
  [Code.Internal, "error"],
  [Code.Unknown, "error"],
  [Code.DataLoss, "error"],
  [Code.Unavailable, "warn"],
]);

type Request = Parameters<ReturnType<Interceptor>>[0];

/**
 * Logs each call in a line: the method, the code, how long it took, whose it was
 * and which session it was about. Never a token, and nothing of a session but
 * its id.
 */
export function logCalls(logger: Logger): Interceptor {
  return (next) => async (request) => {
    const startMs = performance.now();
    try {
      const response = await next(request);
      const sessionId = sessionIdOf(response.message) ?? sessionIdOf(request.message);
      logger.info({ ...fieldsOf(request, startMs), code: "ok", session_id: sessionId }, "call");
      return response;
    } catch (error) {
      const { code, rawMessage, cause } = ConnectError.from(error);
      logger[LOG_LEVELS.get(code) ?? "info"](
        {
          ...fieldsOf(request, startMs),
          code: codeName(code),
          session_id: sessionIdOf(request.message),
          error: rawMessage,
          ...(LOG_LEVELS.has(code) && { err: rootCause(cause) }),
        },
        "call",
      );
      throw error;
    }
  };
}

function fieldsOf({ method, contextValues }: Request, startMs: number) {
  const caller = contextValues.get(callerKey);
  return {
    method: `${method.parent.typeName}/${method.name}`,
    duration_ms: Math.round((performance.now() - startMs) * 1000) / 1000,
    caller: caller?.subject,
    issuer: caller?.issuer,
  };
}

/** The id of the session that a request names or a response returns, if it is one. */
function sessionIdOf(message: object): string | undefined {
  const { sessionId, session, target } = message as Message & {
    readonly sessionId?: string;
    readonly session?: { readonly id: string };
    readonly target?: { readonly case?: string; readonly value?: string };
  };
  if (session?.id) return session.id;
  if (target?.case === "sessionId") return target.value;
  return sessionId || undefined;
}

/** What one of our errors was caused by; it says no more itself than its message. */
function rootCause(error: unknown): unknown {
  return error instanceof SessiondError ? error.cause : error;
}

/** As in the contract and in gRPC's documentation: `not_found`. */
function codeName(code: Code): string {
  return (Code[code] ?? "unknown").replace(/(?<!^)[A-Z]/g, "_$&").toLowerCase();
}
