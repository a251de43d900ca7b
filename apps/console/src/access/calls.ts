import { createRegistry } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "@sessiond/proto/google/rpc/error_details";
import { LockService } from "@sessiond/proto/sessiond/v1/lock_service";
import { RateLimitService } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { expire } from "./access.js";

/** The server answers within two seconds; the rest is for slow networks. */
const TIMEOUT_MS = 10_000;

export type Calls = ReturnType<typeof createCalls>;

/** Calls with this access token, at the server that the page is from. */
export function createCalls(token: string) {
  let hasExpired = false;
  const authorize: Interceptor = (next) => async (request) => {
    // Each refusal is a line in the server's audit, and lists and counts would go on asking.
    if (hasExpired) throw new ConnectError("the login has expired", Code.Unauthenticated);
    request.header.set("authorization", `Bearer ${token}`);
    try {
      return await next(request);
    } catch (error) {
      hasExpired = ConnectError.from(error).code === Code.Unauthenticated;
      if (hasExpired) expire(token);
      throw error;
    }
  };
  const transport = createConnectTransport({
    baseUrl: location.origin,
    defaultTimeoutMs: TIMEOUT_MS,
    interceptors: [authorize],
    // Errors within the results of a batch have details of these types.
    jsonOptions: { registry: createRegistry(BadRequestSchema, ErrorInfoSchema, RetryInfoSchema) },
  });
  return {
    sessions: createClient(SessionService, transport),
    locks: createClient(LockService, transport),
    rateLimits: createClient(RateLimitService, transport),
  };
}

/** What went wrong, and what the operator can do about it. */
export function explain(error: unknown): string {
  const { code, rawMessage } = ConnectError.from(error);
  switch (code) {
    case Code.Unauthenticated:
      return "Your login has expired. Log in again.";
    case Code.PermissionDenied:
      return `${sentence(rawMessage)} Ask whoever grants permissions at your issuer.`;
    case Code.ResourceExhausted:
      return `${sentence(rawMessage)} Wait a moment, then try again.`;
    case Code.DeadlineExceeded:
      return "The server did not answer in time. Try again; /readyz says what is not ready.";
    case Code.Unavailable:
    case Code.Unknown:
      return `The server cannot be reached or is not ready: ${sentence(rawMessage)} Try again; /readyz says what is not ready.`;
    case Code.Internal:
      return "The server failed. Its log says why.";
    default:
      return sentence(rawMessage);
  }
}

/** Only what went wrong. */
export function describe(error: unknown): string {
  return sentence(ConnectError.from(error).rawMessage);
}

function sentence(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}.`;
}
