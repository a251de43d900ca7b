import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { type CallOptions, type Client, Metadata, type StatusObject } from "@grpc/grpc-js";
import { StatusSchema } from "@sessiond/proto/google/rpc/status";
import type { EchoCall, EchoMethod, EchoOptions } from "./echo-client.js";

const PATHS = {
  unary: "/echo.v1.EchoService/Unary",
  serverStream: "/echo.v1.EchoService/ServerStream",
  clientStream: "/echo.v1.EchoService/ClientStream",
  bidi: "/echo.v1.EchoService/Bidi",
} as const satisfies Record<EchoMethod, string>;

/** Calls the echo service with a client of @grpc/grpc-js. */
export function grpcEcho(client: Client): EchoCall {
  return (method, values, options = {}) =>
    new Promise((resolve) => {
      const received: string[] = [];
      let header: Record<string, string> = {};
      const onValue = (value: string | undefined) => {
        if (value !== undefined) {
          received.push(value);
          options.onValue?.(value);
        }
      };
      const call = start(client, method, values, options, onValue);
      call.on("metadata", (metadata: Metadata) => {
        header = record(metadata);
      });
      // The status event says the same.
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
      options.signal?.addEventListener("abort", () => call.cancel());
    });
}

function start(
  client: Client,
  method: EchoMethod,
  values: readonly string[],
  options: EchoOptions,
  onValue: (value: string | undefined) => void,
) {
  const path = PATHS[method];
  const only = values[0] ?? "";
  const metadata = new Metadata();
  for (const [key, value] of options.header ?? []) {
    metadata.add(key, typeof value === "string" ? value : Buffer.from(value));
  }
  const callOptions: CallOptions =
    options.timeoutMs === undefined ? {} : { deadline: Date.now() + options.timeoutMs };
  const onResponse = (_error: unknown, value?: string) => onValue(value);
  switch (method) {
    case "unary":
      return client.makeUnaryRequest(path, encode, decode, only, metadata, callOptions, onResponse);
    case "serverStream":
      return client
        .makeServerStreamRequest(path, encode, decode, only, metadata, callOptions)
        .on("data", onValue);
    case "clientStream": {
      const call = client.makeClientStreamRequest(
        path,
        encode,
        decode,
        metadata,
        callOptions,
        onResponse,
      );
      for (const value of values) {
        call.write(value);
      }
      call.end();
      return call;
    }
    case "bidi": {
      const call = client.makeBidiStreamRequest(path, encode, decode, metadata, callOptions);
      for (const value of values) {
        call.write(value);
      }
      call.end();
      return call.on("data", onValue);
    }
  }
}

function encode(value: string): Buffer {
  return Buffer.from(toBinary(StringValueSchema, create(StringValueSchema, { value })));
}

function decode(bytes: Buffer): string {
  return fromBinary(StringValueSchema, bytes).value;
}

function record(metadata: Metadata): Record<string, string> {
  const entries = Object.entries(metadata.toHttp2Headers());
  return Object.fromEntries(entries.map(([key, value]) => [key, String(value)]));
}
