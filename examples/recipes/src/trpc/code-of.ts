import type { TRPCError } from "@trpc/server";

type TrpcCode = TRPCError["code"];

const CODES: ReadonlyMap<number, TrpcCode> = new Map([
  [400, "BAD_REQUEST"],
  [401, "UNAUTHORIZED"],
  [403, "FORBIDDEN"],
  [409, "CONFLICT"],
  [429, "TOO_MANY_REQUESTS"],
  [503, "SERVICE_UNAVAILABLE"],
] as const);

/** tRPC's name of an HTTP status. */
export function codeOf(status: number): TrpcCode {
  return CODES.get(status) ?? "INTERNAL_SERVER_ERROR";
}
