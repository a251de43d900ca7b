import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { type Client, Metadata, type StatusObject } from "@grpc/grpc-js";
import { type Status, StatusSchema } from "@sessiond/proto/google/rpc/status";
import { EchoService } from "./echo-service.js";

export type EchoMethod = "unary" | "serverStream" | "clientStream" | "bidi";

export interface EchoOptions {
  /** Request headers; bytes for binary ones. */
  readonly header?: readonly (readonly [string, string | Uint8Array])[];
  readonly timeoutMs?: number;
  /** Cancels the call. */
  readonly signal?: AbortSignal;
  /** Receives each response message. */
  readonly onValue?: (value: string) => void;
}

/** What a client saw of a call. */
export interface Outcome {
  /** The gRPC status code, 0 for OK. */
  readonly code: number;
  readonly message: string;
  /** The response messages before the status. */
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

/**
 * Calls the echo service with a client of @grpc/grpc-js. Calls all kinds of methods as
 * bidirectional ones: the protocol does not distinguish them.
 */
export function grpcEcho(client: Client): EchoCall {
  return (method, values, { signal, timeoutMs, onValue, header: requestHeader = [] } = {}) =>
    new Promise((resolve) => {
      const received: string[] = [];
      let header: Record<string, string> = {};
      const metadata = new Metadata();
      for (const [key, value] of requestHeader) {
        metadata.add(key, typeof value === "string" ? value : Buffer.from(value));
      }
      const options = timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
      const path = pathOf(method);
      const call = client.makeBidiStreamRequest(path, encode, decode, metadata, options);
      call.on("metadata", (metadata: Metadata) => {
        header = record(metadata);
      });
      call.on("data", (value: string) => {
        received.push(value);
        onValue?.(value);
      });
      // The status event has the same information.
      call.on("error", () => {});
      call.on("status", ({ code, details, metadata }: StatusObject) => {
        const bytes = metadata.get("grpc-status-details-bin")[0];
        resolve({
          code,
          message: details,
          values: received,
          header,
          trailer: record(metadata),
          status: bytes instanceof Buffer ? fromBinary(StatusSchema, bytes) : undefined,
        });
      });
      signal?.addEventListener("abort", () => call.cancel());
      for (const value of values) call.write(value);
      call.end();
    });
}

export function pathOf(method: keyof typeof EchoService.method): string {
  return `/${EchoService.typeName}/${EchoService.method[method].name}`;
}

export function encode(value: string): Buffer {
  return Buffer.from(toBinary(StringValueSchema, create(StringValueSchema, { value })));
}

export function decode(bytes: Buffer): string {
  return fromBinary(StringValueSchema, bytes).value;
}

function record(metadata: Metadata): Record<string, string> {
  const entries = Object.entries(metadata.toHttp2Headers());
  return Object.fromEntries(entries.map(([key, value]) => [key, String(value)]));
}
