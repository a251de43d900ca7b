import type { Status } from "@sessiond/proto/google/rpc/status";

export type EchoMethod = "unary" | "serverStream" | "clientStream" | "bidi";

export interface EchoOptions {
  /** Request headers; bytes for binary ones. */
  readonly header?: readonly (readonly [string, string | Uint8Array])[];
  readonly timeoutMs?: number;
  /** Cancels the call. */
  readonly signal?: AbortSignal;
  /** Hears of each response message. */
  readonly onValue?: (value: string) => void;
}

/** What a client saw of a call. */
export interface Outcome {
  /** The gRPC status code, 0 for OK. */
  readonly code: number;
  readonly message: string;
  /** The response messages that came before the status. */
  readonly values: readonly string[];
  readonly header: Record<string, string>;
  readonly trailer: Record<string, string>;
  /** The content of grpc-status-details-bin. */
  readonly status: Status | undefined;
}

/** Calls a method of the echo service. Never rejects: an error is an outcome. */
export type EchoCall = (
  method: EchoMethod,
  values: readonly string[],
  options?: EchoOptions,
) => Promise<Outcome>;
