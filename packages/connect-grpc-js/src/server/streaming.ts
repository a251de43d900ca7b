import { setImmediate } from "node:timers/promises";
import {
  create,
  type DescMessage,
  type DescMethodStreaming,
  type Message,
  type MessageInitShape,
} from "@bufbuild/protobuf";
import type {
  HandlerContext,
  MethodImplSpec,
  StreamRequest,
  StreamResponse,
} from "@connectrpc/connect";
import { createAsyncIterable } from "@connectrpc/connect/protocol";
import type { handleBidiStreamingCall, ServerDuplexStream } from "@grpc/grpc-js";
import { CallLifetime } from "./call-lifetime.js";
import { createContext } from "./handler-context.js";
import { mapIterable, onlyMessage, sendAll } from "./message-streams.js";
import { parseMessage, serializeStreamed } from "./messages.js";
import { createStreamRequest } from "./request.js";
import { replaceHeaders } from "./response-headers.js";
import { ResponseStream } from "./response-stream.js";
import { intercept, type Next, type Route } from "./route.js";

type StreamingSpec = Exclude<MethodImplSpec, { kind: "unary" }>;
export type StreamingRoute = Route<StreamingSpec>;

/**
 * Makes the grpc-js handler of a method with a stream in either direction.
 *
 * We serve all three kinds as bidirectional. The protocol does not distinguish them, and Connect's
 * interceptors see the messages of each kind as async iterables.
 */
export function streamingHandler(route: StreamingRoute): handleBidiStreamingCall<Buffer, Buffer> {
  return (call) => void serve(route, call);
}

/** Never rejects: every fault becomes the status of the call. */
async function serve(
  route: StreamingRoute,
  call: ServerDuplexStream<Buffer, Buffer>,
): Promise<void> {
  const { spec, interceptors } = route;
  const method: DescMethodStreaming = spec.method;
  const lifetime = new CallLifetime(call, route.shutdown);
  const { signal } = lifetime;
  const stream = new ResponseStream(call, lifetime);
  if (signal.aborted) {
    stream.fail(signal.reason);
    return;
  }
  // A stream may last for days, so a shutdown does not wait for its end.
  signal.addEventListener("abort", () => stream.fail(signal.reason), { once: true });

  const callHandler: Next = async (request) => {
    lifetime.limitTimeout(route.maxTimeoutMs);
    const context = createContext(route, lifetime, request, stream);
    // Interceptors do not make a unary request of a stream.
    const output = await startHandler(spec, (request as StreamRequest).message, context);
    const message = mapIterable(output, (item) => create(method.output, item));
    const { header, trailer } = stream;
    return { stream: true, method, service: method.parent, message, header, trailer };
  };
  try {
    const input = requestMessages(route, call, signal);
    const request = createStreamRequest(route, method, call, input, signal);
    const response = (await intercept(callHandler, interceptors)(request)) as StreamResponse;
    replaceHeaders(stream.header, response.header);
    const send = (message: Message) =>
      stream.write(serializeStreamed(method.output, message, route));
    await sendAll(response.message, send, signal);
    replaceHeaders(stream.trailer, response.trailer);
    stream.end();
  } catch (error) {
    stream.fail(error);
  }
}

async function startHandler(
  spec: StreamingSpec,
  messages: AsyncIterable<Message>,
  context: HandlerContext,
): Promise<AsyncIterable<MessageInitShape<DescMessage>>> {
  switch (spec.kind) {
    case "server_streaming":
      return spec.impl(await onlyMessage(messages), context);
    case "client_streaming":
      return createAsyncIterable([await spec.impl(messages, context)]);
    case "bidi_streaming":
      return spec.impl(messages, context);
  }
}

async function* requestMessages(
  route: StreamingRoute,
  call: ServerDuplexStream<Buffer, Buffer>,
  signal: AbortSignal,
): AsyncGenerator<Message> {
  // A handler may stop reading and still respond, so the end of this loop must not end the call.
  const received: AsyncIterable<Buffer> = call.iterator({ destroyOnReturn: false });
  try {
    for await (const bytes of received) {
      yield parseMessage(route.spec.method.input, bytes, route);
    }
    // A client that cancels may end its request just before it resets the stream, as Node's own
    // client does. If both arrive together, we learn of the reset only later in this turn of the
    // event loop. Half an upload must not pass for a whole one.
    await setImmediate();
    signal.throwIfAborted();
  } catch (error) {
    // grpc-js destroys the stream of a call that has ended, so `error` looks like an accident. The
    // signal has the real reason.
    throw signal.aborted ? signal.reason : error;
  }
}
