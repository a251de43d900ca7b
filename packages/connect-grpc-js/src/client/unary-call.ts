import type { DescMessage, DescMethodUnary, DescService, MessageShape } from "@bufbuild/protobuf";
import { Code, ConnectError, type UnaryResponse } from "@connectrpc/connect";
import {
  type ChannelInterface,
  type InterceptingListener,
  Metadata,
  type StatusObject,
  status,
} from "@grpc/grpc-js";
import { MetadataHeaders } from "../metadata/metadata-headers.js";
import { errorOf } from "./call-error.js";
import { onAbort } from "./cancellation.js";
import { parse } from "./messages.js";
import { type Call, type OutgoingCall, wasSent } from "./outgoing-call.js";

/**
 * One unary call. It talks to the channel below the clients of grpc-js, which make an event emitter
 * and a stack trace for each call.
 */
export class UnaryCall<I extends DescMessage, O extends DescMessage>
  implements InterceptingListener
{
  readonly response: Promise<UnaryResponse<I, O>>;
  readonly #outgoing: OutgoingCall<DescMethodUnary<I, O>>;
  readonly #call: Call;
  readonly #onEnd: (call: UnaryCall<I, O>) => void;
  readonly #stopListening: (() => void) | undefined;
  #resolve!: (response: UnaryResponse<I, O>) => void;
  #reject!: (error: ConnectError) => void;
  #header: Metadata | undefined;
  #bytes: Buffer | undefined;
  #ended = false;

  /** Starts the call. `onEnd` is called once. */
  constructor(
    channel: ChannelInterface,
    outgoing: OutgoingCall<DescMethodUnary<I, O>>,
    request: Buffer,
    onEnd: (call: UnaryCall<I, O>) => void,
  ) {
    const { signal } = outgoing;
    this.response = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#outgoing = outgoing;
    this.#onEnd = onEnd;
    this.#call = channel.createCall(outgoing.path, outgoing.deadline, null, null, null);
    this.#stopListening =
      signal && onAbort(signal, () => this.cancel(ConnectError.from(signal.reason, Code.Canceled)));
    this.#call.start(outgoing.metadata, this);
    this.#call.startRead();
    this.#call.sendMessageWithContext({}, request);
    this.#call.halfClose();
  }

  /** Ends the call on this side, with this error. */
  cancel(error: ConnectError): void {
    if (this.#ended) return;
    this.#end();
    this.#call.cancelWithStatus(status.CANCELLED, "canceled");
    this.#reject(error);
  }

  onReceiveMetadata(metadata: Metadata): void {
    this.#header = metadata;
  }

  onReceiveMessage(bytes: Buffer): void {
    if (this.#bytes === undefined) {
      this.#bytes = bytes;
      // For the end of the stream, or for a second message, which is an error.
      this.#call.startRead();
      return;
    }
    const message = "protocol error: received extra output message for unary method";
    this.cancel(new ConnectError(message, Code.Unimplemented));
  }

  onReceiveStatus(received: StatusObject): void {
    if (this.#ended) return;
    this.#end();
    try {
      this.#resolve(this.#responseOf(received));
    } catch (error) {
      this.#reject(ConnectError.from(error, Code.Internal));
    }
  }

  #responseOf(received: StatusObject): UnaryResponse<I, O> {
    const { method } = this.#outgoing;
    if (received.code !== status.OK) throw errorOf(received, wasSent(this.#call), this.#header);
    if (this.#bytes === undefined) {
      const message = "protocol error: missing output message for unary method";
      throw new ConnectError(message, Code.Unimplemented);
    }
    const message = parse(method.output, this.#bytes, this.#outgoing);
    return new Response(method, message, this.#header ?? new Metadata(), received.metadata);
  }

  #end(): void {
    this.#ended = true;
    this.#stopListening?.();
    this.#onEnd(this);
  }
}

/** Makes the headers when they are read, which most callers never do. */
class Response<I extends DescMessage, O extends DescMessage> implements UnaryResponse<I, O> {
  readonly stream = false;
  readonly method: DescMethodUnary<I, O>;
  readonly message: MessageShape<O>;
  readonly #metadata: readonly [header: Metadata, trailer: Metadata];
  #header: Headers | undefined;
  #trailer: Headers | undefined;

  constructor(
    method: DescMethodUnary<I, O>,
    message: MessageShape<O>,
    ...metadata: readonly [header: Metadata, trailer: Metadata]
  ) {
    this.method = method;
    this.message = message;
    this.#metadata = metadata;
  }

  get service(): DescService {
    return this.method.parent;
  }

  get header(): Headers {
    this.#header ??= new MetadataHeaders(this.#metadata[0]);
    return this.#header;
  }

  get trailer(): Headers {
    this.#trailer ??= new MetadataHeaders(this.#metadata[1]);
    return this.#trailer;
  }
}
