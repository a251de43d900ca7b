import { Metadata, type ServerUnaryCall } from "@grpc/grpc-js";
import { addHeadersToMetadata } from "../metadata/metadata.js";

/** Converts the headers of a response. Undefined if there are none. */
export function metadataFromHeaders(headers: Headers): Metadata | undefined {
  if (headers.keys().next().done) return undefined;
  const metadata = new Metadata();
  addHeadersToMetadata(headers, metadata);
  return metadata;
}

type HeaderSender = Pick<ServerUnaryCall<unknown, unknown>, "sendMetadata">;

/** Sends the headers of a response. If there are none, grpc-js sends its own later. */
export function sendHeader(call: HeaderSender, header: Headers): void {
  const metadata = metadataFromHeaders(header);
  if (metadata !== undefined) {
    call.sendMetadata(metadata);
  }
}

/** Sends the headers of a response that ends with an error, if gRPC can carry them. */
export function trySendHeader(call: HeaderSender, header: Headers): void {
  try {
    sendHeader(call, header);
  } catch (_error) {
    // The status matters more, and it follows.
  }
}

/** Makes `target` equal to the headers that the interceptors returned. */
export function replaceHeaders(target: Headers, source: Headers): void {
  if (target === source) return;
  for (const key of [...target.keys()]) {
    target.delete(key);
  }
  for (const [key, value] of source) {
    target.append(key, value);
  }
}
