import { createRegistry, type Message } from "@bufbuild/protobuf";
import { ConnectError, type ContextValues, createContextValues } from "@connectrpc/connect";
import {
  compressionNegotiate,
  createMethodSerializationLookup,
  mergeNonProtocolHeaders,
} from "@connectrpc/connect/protocol";
import {
  codeToHttpStatus,
  contentTypeUnaryJson,
  contentTypeUnaryProto,
  errorToJsonBytes,
} from "@connectrpc/connect/protocol-connect";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import {
  callUnary,
  RequestHeaders,
  routesOf,
  type UnaryHeaders,
  type UnaryIncoming,
  type UnaryRoute,
} from "@sessiond/connect-grpc-js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "@sessiond/proto/google/rpc/error_details";
import { admittedKey } from "../admission/admission.js";
import type { PortMetrics } from "../observability/rpc-metrics.js";
import { checkElements } from "../services/message-elements.js";
import { requestTextDecoder } from "../services/request-json.js";
import { toConnectError, withoutQuotedSecrets } from "../services/rpc-error.js";
import { serializeSessions } from "../services/session-bytes.js";
import { clientCertificateKey, clientCertificateOf } from "../tls/client-certificate.js";
import type { HttpClient } from "./http-client.js";
import { hasGone, type Request, type Response } from "./http-messages.js";
import type { PortOptions } from "./port.js";
import { RequestBody } from "./request-body.js";
import { type Arrival, completeReadError, type RequestGate } from "./request-gate.js";
import { tooMuchAtOnce } from "./too-much.js";

export const JSON_OPTIONS = {
  // A batch's result has its error's details in google.protobuf.Any.
  registry: createRegistry(ErrorInfoSchema, BadRequestSchema, RetryInfoSchema),
  // A misspelt `exceptSessionId` must not revoke the session that it should spare.
  ignoreUnknownFields: false,
  // People read JSON: `"revoked": false` tells them more than a field that is missing.
  alwaysEmitImplicit: true,
  textDecoder: requestTextDecoder,
};

/** Connect compresses what is larger, if the client accepts that. In bytes. */
const COMPRESS_MIN_BYTES = 1024;
const MAX_BYTES = 2 ** 32 - 1;
const NONE_HIDDEN: ReadonlySet<string> = new Set();
/** For answers. Compressed requests are Connect's. */
const COMPRESSIONS = [compressionGzip, compressionBrotli];
const TIMEOUT = /^\d{1,10}$/;

type Serializations = ReturnType<typeof createMethodSerializationLookup>;

/** A method, and how its messages are written. */
interface UnaryMethod {
  readonly route: UnaryRoute;
  readonly serializations: Serializations;
}

/** A request, and who sent it. */
interface Exchange {
  readonly request: Request;
  readonly response: Response;
  readonly client: HttpClient;
}

/**
 * Serves unary calls in Connect's protocol as most clients send them: by POST, in JSON or binary, not
 * compressed. Connect's own handlers can serve them, too, but the whole call then takes nearly twice the
 * CPU (`pnpm bench`). What is special stays theirs.
 */
export class ConnectUnary {
  readonly #methods = new Map<string, UnaryMethod>();
  readonly #gate: RequestGate;
  readonly #metrics: PortMetrics;
  readonly #maxBytes: number;

  constructor(options: ConnectUnaryOptions) {
    const { edge, routes, interceptors, shutdownSignal } = options;
    this.#gate = options.requestGate;
    this.#metrics = options.portMetrics;
    this.#maxBytes = edge.limits.maxMessageBytes;
    const limits = { readMaxBytes: this.#maxBytes, writeMaxBytes: MAX_BYTES };
    for (const route of routesOf({ routes, interceptors, shutdownSignal })) {
      const { spec, path } = route;
      if (spec.kind !== "unary") continue;
      const serializations = createMethodSerializationLookup(spec.method, {}, JSON_OPTIONS, limits);
      this.#methods.set(path, { route: { ...route, spec }, serializations });
    }
  }

  /** Serves a call. Undefined if Connect must. Rejects if the answer cannot be sent. */
  serve(exchange: Exchange, path: string): Promise<void> | undefined {
    const method = this.#methods.get(path);
    const isOurs = method !== undefined && isPlain(exchange.request);
    return isOurs ? this.#answer(new ConnectCall(method, exchange)) : undefined;
  }

  async #answer(call: ConnectCall): Promise<void> {
    const { client } = call;
    try {
      const admitting = this.#gate.admit(call);
      if (admitting !== undefined) await admitting;
    } catch (error) {
      // The gate has noted it.
      return call.fail(toConnectError(error));
    }
    client.welcome();
    try {
      await call.read(this.#maxBytes);
    } catch (error) {
      const failure = toConnectError(error);
      this.#gate.note(call, failure);
      return call.fail(failure);
    }
    const headers = { header: new Headers(), trailer: new Headers() };
    try {
      const { message, header, trailer } = await callUnary(call.route, call, headers);
      await this.#send(call, message, { header, trailer });
    } catch (error) {
      call.fail(toConnectError(error), headers);
    }
  }

  async #send(call: ConnectCall, message: Message, headers: UnaryHeaders): Promise<void> {
    const body = call.serialize(message);
    if (!call.client.memory.take(body.length)) {
      const failure = toConnectError(tooMuchAtOnce("buffered_bytes"));
      this.#metrics.refused(failure.cause);
      throw failure;
    }
    const accepted = call.header.get("accept-encoding");
    if (body.length < COMPRESS_MIN_BYTES || accepted === null) return call.succeed(body, headers);
    const { response } = compressionNegotiate(COMPRESSIONS, null, accepted, "accept-encoding");
    if (response === null) return call.succeed(body, headers);
    const compressed = await response.compress(body);
    headers.header.set("content-encoding", response.name);
    call.succeed(compressed, headers);
  }
}

interface ConnectUnaryOptions extends Pick<PortOptions, "routes" | "interceptors" | "edge"> {
  readonly shutdownSignal: AbortSignal;
  readonly requestGate: RequestGate;
  readonly portMetrics: PortMetrics;
}

/** Whether a request has nothing that Connect alone understands, or would refuse. */
function isPlain({ method, headers }: Request): boolean {
  const { "content-type": type, "content-encoding": encoding } = headers;
  const { "connect-timeout-ms": timeout, "connect-protocol-version": version } = headers;
  return (
    method === "POST" &&
    (type === contentTypeUnaryJson || type === contentTypeUnaryProto) &&
    encoding === undefined &&
    (timeout === undefined || TIMEOUT.test(timeout.toString())) &&
    (version === undefined || version === "1") &&
    (headers.host ?? headers[":authority"]) !== undefined
  );
}

/** One call, from its headers to its answer. */
class ConnectCall implements UnaryIncoming, Arrival {
  readonly protocolName = "connect";
  readonly route: UnaryRoute;
  readonly client: HttpClient;
  readonly response: Response;
  readonly header: Headers;
  readonly contextValues: ContextValues;
  readonly startMs = performance.now();
  readonly #request: Request;
  readonly #serializations: Serializations;
  readonly #isBinary: boolean;
  readonly #deadlineMs: number = Number.POSITIVE_INFINITY;
  #message: Uint8Array = new Uint8Array();

  constructor({ route, serializations }: UnaryMethod, { request, response, client }: Exchange) {
    this.route = route;
    this.client = client;
    this.response = response;
    this.header = new RequestHeaders(request.headers, NONE_HIDDEN);
    this.contextValues = createContextValues()
      .set(clientCertificateKey, clientCertificateOf(request))
      .set(admittedKey, client.admitted);
    this.#request = request;
    this.#serializations = serializations;
    this.#isBinary = request.headers["content-type"] === contentTypeUnaryProto;
    const timeout = request.headers["connect-timeout-ms"];
    if (timeout !== undefined) this.#deadlineMs = Date.now() + Number(timeout);
  }

  get method() {
    return this.route.spec.method;
  }

  get url(): string {
    const { headers, url } = this.#request;
    return `http://${headers.host ?? headers[":authority"]}${url}`;
  }

  get cancelled(): boolean {
    return hasGone(this.response) || Date.now() >= this.#deadlineMs;
  }

  getDeadline(): number {
    return this.#deadlineMs;
  }

  once(_event: "cancelled", listener: () => void): void {
    const { response } = this;
    response.once("close", listener);
    if (this.#deadlineMs === Number.POSITIVE_INFINITY) return;
    const timer = setTimeout(listener, this.#deadlineMs - Date.now());
    response.once("close", () => clearTimeout(timer));
  }

  async read(maxBytes: number): Promise<void> {
    const { memory } = this.client;
    const check = (bytes: Uint8Array) => {
      // Of JSON, the decoder looks at them.
      if (this.#isBinary) checkElements(this.method.input, bytes);
    };
    this.#message = await new RequestBody(this.#request, { maxBytes, memory, check }).read();
  }

  parse(): Message {
    try {
      return this.#serializations.getI(this.#isBinary).parse(this.#message);
    } catch (error) {
      if (error instanceof ConnectError) {
        const type = this.#isBinary ? contentTypeUnaryProto : contentTypeUnaryJson;
        withoutQuotedSecrets(error);
        completeReadError(error, { input: this.method.input, type, message: this.#message });
      }
      throw error;
    }
  }

  serialize(message: Message): Uint8Array<ArrayBuffer> {
    const bytes = this.#isBinary ? serializeSessions(this.method.output, message) : undefined;
    return bytes ?? this.#serializations.getO(this.#isBinary).serialize(message);
  }

  succeed(body: Uint8Array, headers: UnaryHeaders): void {
    const type = this.#isBinary ? contentTypeUnaryProto : contentTypeUnaryJson;
    this.#write(200, type, body, headers);
  }

  fail(error: ConnectError, headers?: UnaryHeaders): void {
    const header = new Headers(headers?.header);
    if (!error.isWireError) mergeNonProtocolHeaders(header, error.metadata);
    const trailer = headers?.trailer ?? new Headers();
    const body = errorToJsonBytes(error, JSON_OPTIONS);
    this.#write(codeToHttpStatus(error.code), contentTypeUnaryJson, body, { header, trailer });
  }

  #write(status: number, type: string, body: Uint8Array, { header, trailer }: UnaryHeaders): void {
    const { response } = this;
    // A client that has gone is no fault.
    if (hasGone(response) || response.writableEnded) return;
    for (const [name, value] of header) response.setHeader(name, value);
    for (const [name, value] of trailer) response.setHeader(`trailer-${name}`, value);
    response.statusCode = status;
    response.setHeader("content-type", type);
    response.setHeader("content-length", body.length);
    response.end(body);
  }
}
