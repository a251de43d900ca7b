import type { DescMethodStreaming, Message } from "@bufbuild/protobuf";
import type { StreamRequest } from "@connectrpc/connect";
import { MetadataHeaders } from "../metadata/metadata-headers.js";
import type { IncomingCall, Route } from "./route.js";

/** The request of a streaming call for the interceptors. */
export function createStreamRequest(
  route: Route,
  method: DescMethodStreaming,
  call: IncomingCall,
  message: AsyncIterable<Message>,
  signal: AbortSignal,
): StreamRequest {
  return {
    ...{ stream: true, service: route.spec.method.parent, method, requestMethod: "POST" },
    // grpc-js does not tell whether the connection is encrypted.
    url: `http://${call.getHost()}${call.getPath()}`,
    header: new MetadataHeaders(call.metadata),
    contextValues: route.contextValues(call),
    ...{ message, signal },
  };
}
