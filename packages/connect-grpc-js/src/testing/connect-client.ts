import { create } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import {
  type CallOptions,
  ConnectError,
  createClient,
  encodeBinaryHeader,
  type Transport,
} from "@connectrpc/connect";
import { StatusSchema } from "@sessiond/proto/google/rpc/status";
import type { EchoCall, EchoMethod, EchoOptions } from "./echo-client.js";
import { EchoService } from "./echo-service.js";

/** Calls the echo service with a client of @connectrpc/connect. */
export function connectEcho(transport: Transport): EchoCall {
  const client = createClient(EchoService, transport);

  const responses = (
    method: EchoMethod,
    values: readonly string[],
    options: CallOptions,
  ): AsyncIterable<{ value: string }> => {
    switch (method) {
      case "unary":
        return single(client.unary({ value: values[0] ?? "" }, options));
      case "serverStream":
        return client.serverStream({ value: values[0] ?? "" }, options);
      case "clientStream":
        return single(client.clientStream(messages(values), options));
      case "bidi":
        return client.bidi(messages(values), options);
    }
  };

  return async (method, values, options = {}) => {
    const received: string[] = [];
    let header: Record<string, string> = {};
    let trailer: Record<string, string> = {};
    const callOptions: CallOptions = {
      ...connectOptions(options),
      onHeader: (headers) => {
        header = Object.fromEntries(headers);
      },
      onTrailer: (headers) => {
        trailer = Object.fromEntries(headers);
      },
    };
    try {
      for await (const { value } of responses(method, values, callOptions)) {
        received.push(value);
        options.onValue?.(value);
      }
      return { code: 0, message: "", values: received, header, trailer, status: undefined };
    } catch (error) {
      const { code, rawMessage, metadata, details } = ConnectError.from(error);
      const anys = details.flatMap((detail) =>
        "type" in detail
          ? create(AnySchema, {
              typeUrl: `type.googleapis.com/${detail.type}`,
              value: detail.value,
            })
          : [],
      );
      const status = create(StatusSchema, { code, message: rawMessage, details: anys });
      // The metadata of an error holds headers and trailers alike.
      const union = Object.fromEntries(metadata);
      return {
        code,
        message: rawMessage,
        values: received,
        header: { ...header, ...union },
        trailer: union,
        status: anys.length > 0 ? status : undefined,
      };
    }
  };
}

function connectOptions({ header = [], timeoutMs, signal }: EchoOptions): CallOptions {
  const headers = new Headers();
  for (const [key, value] of header) {
    headers.append(key, typeof value === "string" ? value : encodeBinaryHeader(value));
  }
  return {
    headers,
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(signal !== undefined && { signal }),
  };
}

async function* messages(values: readonly string[]) {
  for (const value of values) {
    yield { value };
  }
}

async function* single<Item>(item: Promise<Item>): AsyncGenerator<Item> {
  yield await item;
}
