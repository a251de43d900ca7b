import { LockService } from "@sessiond/proto/sessiond/v1/lock_service";
import { RateLimitService } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";

/** The RPCs of all services, named as in their stubs. No name occurs in two services. */
export const METHODS = {
  ...SessionService.method,
  ...LockService.method,
  ...RateLimitService.method,
};

export type Methods = typeof METHODS;

/** An RPC with one answer. */
export type UnaryMethod = {
  [M in keyof Methods]: Methods[M] extends { methodKind: "unary" } ? M : never;
}[keyof Methods];
