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

/** How a call failed. Throws where it did not. */
export async function failureOf(call: Promise<unknown>): Promise<Failure> {
  let answer: unknown;
  try {
    answer = await call;
  } catch (error) {
    if (error instanceof ConnectError) return describe(error);
    throw error;
  }
  throw new Error(`expected a failure, got ${JSON.stringify(answer, writeBigInt)}`);
}

/** The same of one result of a batch. Throws where it is a session. */
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
  return {
    code: codeName(error.code),
    message: error.rawMessage,
    ...(info && { reason: info.reason, domain: info.domain, metadata: info.metadata }),
    ...(badRequest && {
      violations: badRequest.fieldViolations.map(({ field, description }) => ({
        field,
        description,
      })),
    }),
    ...(retryInfo?.retryDelay && { retryDelayMs: durationMs(retryInfo.retryDelay) }),
  };
}

/** As gRPC spells it: `NOT_FOUND`. */
export function codeName(code: Code): string {
  return Code[code].replace(/(?<!^)[A-Z]/g, "_$&").toUpperCase();
}

function writeBigInt(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}
