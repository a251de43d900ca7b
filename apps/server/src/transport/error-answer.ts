import type { ConnectError } from "@connectrpc/connect";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { endStreamFlag, errorToJson } from "@connectrpc/connect/protocol-connect";
import type { Request, Response } from "./http-messages.js";
import { trailersOnly } from "./trailers-only.js";

/** An error in each form that a protocol needs, for calls of which nothing is read or nothing more. */
export interface ErrorAnswer {
  readonly error: ConnectError;
  readonly grpcHeaders: Readonly<Record<string, string>>;
  readonly json: string;
}

export function errorAnswer(error: ConnectError): ErrorAnswer {
  const json = JSON.stringify(errorToJson(error, undefined));
  return { error, grpcHeaders: trailersOnly(error), json };
}

/** Answers with RESOURCE_EXHAUSTED, in the protocol of the request. */
export function writeAnswer(
  request: Request,
  response: Response,
  { grpcHeaders, json }: ErrorAnswer,
): void {
  const type = request.headers["content-type"] ?? "";
  if (type.startsWith("application/grpc")) {
    write(response, 200, { "content-type": type, ...grpcHeaders });
  } else if (type.startsWith("application/connect+")) {
    write(response, 200, { "content-type": type }, endOfStream(json));
  } else {
    write(response, 429, { "content-type": "application/json" }, json);
  }
}

function write(
  response: Response,
  status: number,
  headers: Readonly<Record<string, string>>,
  body: string | Uint8Array = "",
): void {
  response.statusCode = status;
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  response.end(body);
}

/** The message that ends a stream with an error (https://connectrpc.com/docs/protocol#error-end-stream). */
function endOfStream(json: string): Uint8Array {
  return encodeEnvelope(endStreamFlag, Buffer.from(`{"error":${json}}`));
}
