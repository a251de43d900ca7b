import type {
  DescMessage,
  DescMethod,
  DescMethodStreaming,
  DescMethodUnary,
  MessageInitShape,
} from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ContextValues,
  createContextValues,
  type Interceptor,
  type StreamResponse,
  type Transport,
  type UnaryResponse,
} from "@connectrpc/connect";
import { runStreamingCall, runUnaryCall } from "@connectrpc/connect/protocol";
import type { ChannelInterface, Metadata } from "@grpc/grpc-js";
import { MetadataHeaders } from "../metadata/metadata-headers.js";
import { requestMetadata } from "../metadata/request-metadata.js";
import { Channels } from "./channels.js";
import type { ClientTls } from "./connection-credentials.js";
import { type BinaryOptions, type ParseMessage, type Parsing, serialize } from "./messages.js";
import type { OutgoingCall } from "./outgoing-call.js";
import { StreamingCall } from "./streaming-call.js";
import { UnaryCall } from "./unary-call.js";

/** Options of {@link createGrpcJsTransport}. */
export interface GrpcJsTransportOptions {
  /**
   * The server's address: `http://host:port`, `https://host:port` for TLS, or `dns:///host:port`,
   * which has a connection to each address of the name and gives them calls in turn. A list of
   * addresses of one scheme, `http` or `https`, gets calls in turn, too.
   */
  readonly baseUrl: string | readonly string[];

  /** TLS with `https`. With `dns:///` it turns TLS on. */
  readonly tls?: ClientTls | undefined;

  /** Interceptors of all calls. The first one is the outermost. Default: none. */
  readonly interceptors?: readonly Interceptor[] | undefined;

  /** The timeout of calls without one of their own, in milliseconds. Default: none. */
  readonly defaultTimeoutMs?: number | undefined;

  /** Options to parse and serialize messages. Default: as in @bufbuild/protobuf. */
  readonly binaryOptions?: BinaryOptions;

  /**
   * Parses the answers of some types, in less time than @bufbuild/protobuf takes for any type. Default:
   * none.
   */
  readonly parse?: ParseMessage | undefined;

  /** The largest response message. Default: 4 MiB, as in all of gRPC. */
  readonly readMaxBytes?: number | undefined;

  /**
   * A connection with calls on it gets a PING this often, and one that was idle before its next
   * call. Default: 10 s.
   */
  readonly pingIntervalMs?: number | undefined;

  /** A connection whose PING gets no answer for this long is replaced. Default: 5 s. */
  readonly pingTimeoutMs?: number | undefined;

  /**
   * A server that sends nothing for this long after it accepted a connection is given up.
   * Default: 5 s.
   */
  readonly handshakeTimeoutMs?: number | undefined;
}

/** A Connect transport that must be closed. */
export interface GrpcJsTransport extends Transport, Disposable {
  /** Closes all connections. Calls on them, and later calls, fail with CANCELED. */
  close(): void;
}

/**
 * After a failure to connect we wait this long at first, and at most so long. The defaults of
 * grpc-js, 1 s and 2 minutes, are for the clients of millions: a server that restarts is back in
 * seconds, and until the next attempt all calls fail.
 */
const FIRST_RECONNECT_MS = 100;
const MAX_RECONNECT_MS = 1000;

/** How often a name is looked up at most, when its servers have failed. Default of grpc-js: 30 s. */
const MIN_LOOKUP_INTERVAL_MS = 1000;

/**
 * A gRPC transport for Connect clients on @grpc/grpc-js. The first call connects. Calls fail
 * immediately while no server can be reached, and are never made twice, unless the server refused
 * the stream. The error of a call that no server processed has a `NotProcessedError` as its cause.
 *
 * @throws TypeError for a `baseUrl` that is none of the addresses above
 */
export function createGrpcJsTransport(options: GrpcJsTransportOptions): GrpcJsTransport {
  return new GrpcTransport(options);
}

interface Cancelable {
  cancel(error: ConnectError): void;
}

class GrpcTransport implements GrpcJsTransport {
  readonly #channels: Channels;
  readonly #baseUrl: string;
  readonly #prefix: string;
  readonly #interceptors: Interceptor[];
  readonly #defaultTimeoutMs: number | undefined;
  readonly #parsing: Parsing;
  readonly #paths = new WeakMap<DescMethod, string>();
  readonly #active = new Set<Cancelable>();
  #closed = false;

  constructor(options: GrpcJsTransportOptions) {
    const addresses = addressesFrom(options.baseUrl);
    const [first] = addresses;
    this.#baseUrl = first.href.replace(/\/$/, "");
    this.#prefix = first.protocol === "dns:" ? "" : first.pathname.replace(/\/$/, "");
    this.#interceptors = [...(options.interceptors ?? [])];
    this.#defaultTimeoutMs = options.defaultTimeoutMs;
    this.#parsing = { binaryOptions: options.binaryOptions, parse: options.parse };
    const { tls, pingIntervalMs = 10_000, pingTimeoutMs = 5000, readMaxBytes } = options;
    this.#channels = new Channels({
      addresses,
      tls,
      handshakeTimeoutMs: options.handshakeTimeoutMs ?? 5000,
      channelOptions: {
        "grpc.initial_reconnect_backoff_ms": FIRST_RECONNECT_MS,
        "grpc.max_reconnect_backoff_ms": MAX_RECONNECT_MS,
        "grpc.dns_min_time_between_resolutions_ms": MIN_LOOKUP_INTERVAL_MS,
        "grpc.keepalive_time_ms": pingIntervalMs,
        "grpc.keepalive_timeout_ms": pingTimeoutMs,
        ...(readMaxBytes !== undefined && { "grpc.max_receive_message_length": readMaxBytes }),
        // A TXT record must not configure us, nor the environment send us through a proxy.
        "grpc.service_config_disable_resolution": 1,
        "grpc.enable_http_proxy": 0,
        // `close` must close our connections, and only ours.
        "grpc.use_local_subchannel_pool": 1,
        "grpc.enable_channelz": 0,
      },
    });
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: MessageInitShape<I>,
    contextValues?: ContextValues,
  ): Promise<UnaryResponse<I, O>> {
    const limitMs = this.#timeout(timeoutMs);
    const channel = this.#interceptors.length === 0 ? this.#channels.now : undefined;
    if (channel !== undefined) {
      const metadata = requestMetadata(header);
      return this.#unary(channel, this.#outgoing(method, metadata, limitMs, signal), input);
    }
    return runUnaryCall<I, O>({
      interceptors: this.#interceptors,
      ...(signal && { signal }),
      ...(limitMs !== undefined && { timeoutMs: limitMs }),
      req: {
        ...this.#requestOf(method, header, contextValues),
        stream: false,
        method,
        message: input,
      },
      next: async (request) => {
        const metadata = requestMetadata(request.header);
        const outgoing = this.#outgoing(method, metadata, limitMs, request.signal);
        const channel = await this.#channels.soon(request.signal);
        const response = await this.#unary(channel, outgoing, request.message);
        // Interceptors may copy a response by its own properties.
        const { service, message, header: received, trailer } = response;
        return { stream: false, service, method, message, header: received, trailer };
      },
    });
  }

  stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: AsyncIterable<MessageInitShape<I>>,
    contextValues?: ContextValues,
  ): Promise<StreamResponse<I, O>> {
    const limitMs = this.#timeout(timeoutMs);
    return runStreamingCall<I, O>({
      interceptors: this.#interceptors,
      ...(signal && { signal }),
      ...(limitMs !== undefined && { timeoutMs: limitMs }),
      req: {
        ...this.#requestOf(method, header, contextValues),
        stream: true,
        method,
        message: input,
      },
      next: async (request) => {
        const metadata = requestMetadata(request.header);
        const outgoing = this.#outgoing(method, metadata, limitMs, request.signal);
        const channel = await this.#channels.soon(request.signal);
        this.#refuseIfEnded(request.signal);
        const call = new StreamingCall(channel, outgoing, request.message, this.#forget);
        this.#active.add(call);
        const received = await call.header;
        return {
          ...{ stream: true, service: method.parent, method, message: call },
          header: new MetadataHeaders(received),
          trailer: new MetadataHeaders(call.trailer),
        };
      },
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const call of [...this.#active]) call.cancel(closed());
    this.#channels.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #unary<I extends DescMessage, O extends DescMessage>(
    channel: ChannelInterface,
    outgoing: OutgoingCall<DescMethodUnary<I, O>>,
    input: MessageInitShape<I>,
  ): Promise<UnaryResponse<I, O>> {
    this.#refuseIfEnded(outgoing.signal);
    const request = serialize(outgoing.method.input, input, this.#parsing.binaryOptions);
    const call = new UnaryCall(channel, outgoing, request, this.#forget);
    this.#active.add(call);
    return call.response;
  }

  readonly #forget = (call: Cancelable) => {
    this.#active.delete(call);
  };

  #refuseIfEnded(signal: AbortSignal | undefined): void {
    if (this.#closed) throw closed();
    if (signal?.aborted) throw ConnectError.from(signal.reason, Code.Canceled);
  }

  #outgoing<Method extends DescMethod>(
    method: Method,
    metadata: Metadata,
    timeoutMs: number | undefined,
    signal: AbortSignal | undefined,
  ): OutgoingCall<Method> {
    const path = this.#pathOf(method);
    const deadline = timeoutMs === undefined ? Number.POSITIVE_INFINITY : Date.now() + timeoutMs;
    return { method, path, metadata, deadline, signal, ...this.#parsing };
  }

  #requestOf(method: DescMethod, header: HeadersInit | undefined, values?: ContextValues) {
    return {
      service: method.parent,
      requestMethod: "POST",
      url: this.#baseUrl + this.#pathOf(method).slice(this.#prefix.length),
      header: new Headers(header),
      contextValues: values ?? createContextValues(),
    };
  }

  #pathOf(method: DescMethod): string {
    let path = this.#paths.get(method);
    if (path === undefined) {
      path = `${this.#prefix}/${method.parent.typeName}/${method.name}`;
      this.#paths.set(method, path);
    }
    return path;
  }

  /** As in Connect, a timeout of 0 or less is none. */
  #timeout(timeoutMs: number | undefined): number | undefined {
    const chosen = timeoutMs ?? this.#defaultTimeoutMs;
    return chosen !== undefined && chosen <= 0 ? undefined : chosen;
  }
}

function closed(): ConnectError {
  return new ConnectError("the transport is closed", Code.Canceled);
}

function addressesFrom(baseUrl: string | readonly string[]): readonly [URL, ...URL[]] {
  const given = typeof baseUrl === "string" ? [baseUrl] : baseUrl;
  const [first, ...others] = given.map((each) => new URL(each));
  if (first === undefined) throw new TypeError("baseUrl: expected at least one address");
  const schemes = others.length === 0 ? ["http:", "https:", "dns:"] : ["http:", "https:"];
  const areFit =
    schemes.includes(first.protocol) && others.every(({ protocol }) => protocol === first.protocol);
  if (!areFit) {
    throw new TypeError(
      "baseUrl: expected http:, https: or dns:///, and in a list one of http: and https:",
    );
  }
  return [first, ...others];
}
