import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "@sessiond/proto/google/rpc/error_details";
import type { SessionResult } from "@sessiond/proto/sessiond/v1/session_service";

/** Why a call failed, in full, as its caller learns it. */
export interface Failure {
  /** As in the contract: `NOT_FOUND`. */
  readonly code: string;
  readonly message: string;
  readonly reason?: string;
  readonly domain?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  /** The fields that were refused. */
  readonly violations?: readonly { readonly field: string; readonly description: string }[];
  readonly retryDelayMs?: number;
}

/** The failure of every call that finds no session, whatever the cause. */
export const SESSION_NOT_FOUND: Failure = {
  ...{ code: "NOT_FOUND", message: "session not found" },
  ...{ reason: "SESSION_NOT_FOUND", domain: "sessiond", metadata: {} },
};

/** How a call failed. Throws if it did not. */
export async function failureOf(call: Promise<unknown>): Promise<Failure> {
  const failure = await failureIfAny(call);
  if (failure === undefined) throw new Error("expected the call to fail");
  return failure;
}

/** How a call failed, if it did. */
export function failureIfAny(call: Promise<unknown>): Promise<Failure | undefined> {
  return call.then(
    () => undefined,
    (error) => {
      if (error instanceof ConnectError) return describe(error);
      throw error;
    },
  );
}

/** How one result of a batch failed. Throws if it is a session. */
export function failureIn({ result }: SessionResult): Failure {
  if (result.case !== "error") throw new Error("expected an error in the result");
  const { code, message, details } = result.value;
  const error = new ConnectError(message, code);
  error.details = details.map(({ typeUrl, value }) => {
    return { type: typeUrl.slice(typeUrl.lastIndexOf("/") + 1), value };
  });
  return describe(error);
}

function describe(error: ConnectError): Failure {
  const [info] = error.findDetails(ErrorInfoSchema);
  const [badRequest] = error.findDetails(BadRequestSchema);
  const [retryInfo] = error.findDetails(RetryInfoSchema);
  const violations = badRequest?.fieldViolations.map(({ field, description }) => {
    return { field, description };
  });
  return {
    code: codeName(error.code),
    message: error.rawMessage,
    ...(info && { reason: info.reason, domain: info.domain, metadata: info.metadata }),
    ...(violations && { violations }),
    ...(retryInfo?.retryDelay && { retryDelayMs: durationMs(retryInfo.retryDelay) }),
  };
}

/** As gRPC spells it: `NOT_FOUND`. */
export function codeName(code: Code): string {
  return Code[code].replace(/(?<!^)[A-Z]/g, "_$&").toUpperCase();
}
