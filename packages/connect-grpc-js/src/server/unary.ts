import { create } from "@bufbuild/protobuf";
import type { MethodImplSpec, UnaryRequest, UnaryResponse } from "@connectrpc/connect";
import type { handleUnaryCall, ServerUnaryCall, sendUnaryData } from "@grpc/grpc-js";
import { CallLifetime } from "./call-lifetime.js";
import { createContext } from "./handler-context.js";
import { serializeMessage } from "./messages.js";
import { createUnaryRequest } from "./request.js";
import { metadataFromHeaders, sendHeader, trySendHeader } from "./response-headers.js";
import { intercept, type Next, type Route } from "./route.js";
import { statusOf } from "./status.js";

export type UnaryRoute = Route<Extract<MethodImplSpec, { kind: "unary" }>>;

/** Makes the grpc-js handler of a unary method. */
export function unaryHandler(route: UnaryRoute): handleUnaryCall<Buffer, Buffer> {
  return (call, respond) => void serve(route, call, respond);
}

/** Never rejects: every fault becomes the status of the call. */
async function serve(
  route: UnaryRoute,
  call: ServerUnaryCall<Buffer, Buffer>,
  respond: sendUnaryData<Buffer>,
): Promise<void> {
  const { method, impl } = route.spec;
  const lifetime = new CallLifetime(call, route.shutdown);
  const header = new Headers();
  const trailer = new Headers();
  const callHandler: Next = async (request) => {
    lifetime.limitTimeout(route.maxTimeoutMs);
    const context = createContext(route, lifetime, request, { header, trailer });
    // Interceptors do not make a stream of a unary request.
    const output = await impl((request as UnaryRequest).message, context);
    const message = create(method.output, output);
    return { stream: false, method, service: method.parent, message, header, trailer };
  };
  try {
    const request = createUnaryRequest(route, call, lifetime);
    const response = await intercept(callHandler, route.interceptors)(request);
    const { message } = response as UnaryResponse;
    const bytes = serializeMessage(method.output, message, route.binaryOptions);
    const trailers = metadataFromHeaders(response.trailer);
    sendHeader(call, response.header);
    lifetime.complete();
    respond(null, bytes, trailers);
  } catch (error) {
    const status = statusOf(lifetime.explain(error), trailer);
    trySendHeader(call, header);
    lifetime.complete();
    respond(status);
  }
}
