import type { DescMessage, DescMethodStreaming, MessageShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  type ChannelInterface,
  type InterceptingListener,
  Metadata,
  type StatusObject,
  status,
} from "@grpc/grpc-js";
import { errorOf } from "./call-error.js";
import { onAbort } from "./cancellation.js";
import { parse, serialize } from "./messages.js";
import { type Call, type OutgoingCall, wasSent } from "./outgoing-call.js";

type Method<I extends DescMessage, O extends DescMessage> = DescMethodStreaming<I, O>;

/**
 * A call with a stream of messages in one direction or in both. It reads a message when the consumer
 * asks for it, so that the server can send no more than fits into the window of HTTP/2.
 */
export class StreamingCall<I extends DescMessage, O extends DescMessage>
  implements InterceptingListener, AsyncIterableIterator<MessageShape<O>>
{
  readonly #outgoing: OutgoingCall<Method<I, O>>;
  readonly #call: Call;
  readonly #onEnd: (call: StreamingCall<I, O>) => void;
  readonly #stopListening: (() => void) | undefined;
  readonly #header = Promise.withResolvers<Metadata>();
  #received: Metadata | undefined;
  #trailer = new Metadata();
  /** The message that is being sent. */
  #sending: PromiseWithResolvers<void> | undefined;
  #read: PromiseWithResolvers<IteratorResult<MessageShape<O>, undefined>> | undefined;
  #end: { readonly error: ConnectError | undefined } | undefined;

  /** Starts the call. `onEnd` is called once. */
  constructor(
    channel: ChannelInterface,
    outgoing: OutgoingCall<Method<I, O>>,
    requests: AsyncIterable<MessageShape<I>>,
    onEnd: (call: StreamingCall<I, O>) => void,
  ) {
    const { signal } = outgoing;
    this.#outgoing = outgoing;
    this.#onEnd = onEnd;
    // The error reaches the consumer at its next read, too.
    this.#header.promise.catch(() => {});
    this.#call = channel.createCall(outgoing.path, outgoing.deadline, null, null, null);
    this.#stopListening =
      signal && onAbort(signal, () => this.cancel(ConnectError.from(signal.reason, Code.Canceled)));
    this.#call.start(outgoing.metadata, this);
    void this.#send(requests);
  }

  /** The headers of the response. Rejects if the server answers with an error alone. */
  get header(): Promise<Metadata> {
    return this.#header.promise;
  }

  /** The trailers, once the messages have ended. */
  get trailer(): Metadata {
    return this.#trailer;
  }

  /** Ends the call on this side, with this error. */
  cancel(error: ConnectError): void {
    if (this.#end !== undefined) return;
    this.#finish(error);
    this.#call.cancelWithStatus(status.CANCELLED, "canceled");
  }

  next(): Promise<IteratorResult<MessageShape<O>, undefined>> {
    if (this.#end !== undefined) return this.#atEnd(this.#end.error);
    this.#read = Promise.withResolvers();
    this.#call.startRead();
    return this.#read.promise;
  }

  async return(): Promise<IteratorResult<MessageShape<O>, undefined>> {
    this.cancel(new ConnectError("the consumer has left the stream", Code.Canceled));
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  onReceiveMetadata(metadata: Metadata): void {
    this.#received = metadata;
    this.#header.resolve(metadata);
  }

  onReceiveMessage(bytes: Buffer): void {
    const { method } = this.#outgoing;
    const read = this.#read;
    this.#read = undefined;
    try {
      read?.resolve({ done: false, value: parse(method.output, bytes, this.#outgoing) });
    } catch (error) {
      this.#read = read;
      this.cancel(ConnectError.from(error, Code.Internal));
    }
  }

  onReceiveStatus(received: StatusObject): void {
    if (this.#end !== undefined) return;
    for (const [key, values] of Object.entries(received.metadata.toJSON())) {
      for (const value of values) this.#trailer.add(key, value);
    }
    const error =
      received.code === status.OK
        ? undefined
        : errorOf(received, wasSent(this.#call), this.#received);
    this.#finish(error);
  }

  async #send(requests: AsyncIterable<MessageShape<I>>): Promise<void> {
    const { method, binaryOptions } = this.#outgoing;
    try {
      for await (const request of requests) {
        const bytes = serialize(method.input, request, binaryOptions);
        const sending = Promise.withResolvers<void>();
        this.#sending = sending;
        this.#call.sendMessageWithContext({ callback: () => sending.resolve() }, bytes);
        await sending.promise;
        if (this.#end !== undefined) return;
      }
      this.#call.halfClose();
    } catch (error) {
      this.cancel(ConnectError.from(error, Code.Internal));
    }
  }

  #finish(error: ConnectError | undefined): void {
    this.#end = { error };
    this.#stopListening?.();
    this.#onEnd(this);
    this.#sending?.resolve();
    if (error === undefined) this.#header.resolve(this.#received ?? new Metadata());
    else this.#header.reject(error);
    this.#read?.resolve(this.#atEnd(error));
    this.#read = undefined;
  }

  async #atEnd(error: ConnectError | undefined): Promise<IteratorResult<never, undefined>> {
    if (error !== undefined) throw error;
    return { done: true, value: undefined };
  }
}
