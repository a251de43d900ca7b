import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { DescMethod } from "@bufbuild/protobuf";
import { type ConnectError, type ContextValues, createContextValues } from "@connectrpc/connect";
import { invalidArgument } from "@sessiond/core";
import type { Logger } from "pino";
import { type Admitted, admittedKey } from "../admission/admission.js";
import { TREATMENTS } from "../admission/priorities.js";
import type { AccessTokenVerifier } from "../auth/access-token.js";
import { callerKey } from "../auth/caller.js";
import type { Edge } from "../edge/edge.js";
import type { OpenStream, StreamUser } from "../edge/open-stream.js";
import { admit } from "../interceptors/admit.js";
import { logRefusal } from "../interceptors/log-calls.js";
import type { Audit } from "../observability/audit.js";
import type { PortMetrics } from "../observability/rpc-metrics.js";
import { callSpanKey, type Tracing } from "../observability/tracing.js";
import { CLIENT_GONE, toConnectError } from "../services/rpc-error.js";
import { clientCertificateKey, clientCertificateOf } from "../tls/client-certificate.js";
import type { RefusedCalls } from "./refused-calls.js";
import { tooMuchAtOnce } from "./too-much.js";
import { refuseStream, trailersOnly } from "./trailers-only.js";

/** https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md */
const GRPC_TIMEOUT = /^\d{1,8}[HMSmun]$/;
const BAD_TIMEOUT = invalidArgument(
  "grpc-timeout",
  "expected at most 8 digits and one of the units H, M, S, m, u, n",
);

interface GrpcGateOptions {
  readonly edge: Edge;
  /** By default there never are too many calls. */
  readonly refusedCalls?: RefusedCalls | undefined;
  readonly verifier: AccessTokenVerifier;
  readonly logger: Logger;
  readonly audit: Audit;
  readonly metrics: PortMetrics;
  readonly tracing?: Tracing | undefined;
}

/** A call whose headers have come. */
class Arrival implements StreamUser {
  readonly stream: ServerHttp2Stream;
  /** Undefined for what needs no access token, and for what is not there. */
  readonly method: DescMethod | undefined;
  readonly startMs = performance.now();
  readonly values: ContextValues = createContextValues();
  /** Whether the interceptors have it. Then they log and count it. */
  isServed = false;
  /** Whether it has failed before, and is logged and counted. */
  isNoted = false;
  /** Notes a call that has left before its request is whole. */
  onLeft: ((arrival: Arrival) => void) | undefined;
  readonly #headers: IncomingHttpHeaders;
  #admitted: Admitted | undefined;

  constructor(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    method: DescMethod | undefined,
  ) {
    this.stream = stream;
    this.method = method;
    this.#headers = headers;
    const socket = stream.session?.socket;
    if (socket) this.values.set(clientCertificateKey, clientCertificateOf({ socket }));
  }

  /** As that of `Headers`, which costs more to make. */
  get header(): Pick<Headers, "get"> {
    return { get: (name) => this.#headers[name]?.toString() ?? null };
  }

  hold(admitted: Admitted): void {
    this.#admitted = admitted;
    this.values.set(admittedKey, admitted);
  }

  /** The call has its answer. Its client may go on with the request. */
  end(): void {
    this.#admitted?.end();
  }

  onStalled(): void {
    this.end();
  }

  onClosed(): void {
    this.end();
    if (!this.isServed && !this.isNoted) this.onLeft?.(this);
  }
}

/**
 * Decides about each call of the gRPC port when its headers have come, since grpc-js reads and
 * inflates a request before it asks anybody. In this order: is there room for the stream, are there
 * too many calls, who calls, and may the caller do that. Nothing is read of a call that is refused.
 */
export class GrpcGate {
  readonly #options: GrpcGateOptions;
  #admitting = 0;

  constructor(options: GrpcGateOptions) {
    this.#options = options;
  }

  /** Lets a call in by `serve`, now or later, or answers it. */
  readonly enter = (
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    serve: () => void,
  ): void => {
    const { edge, refusedCalls } = this.#options;
    if (edge.hasCut(stream)) return;
    const { ":path": path = "", ":method": verb, authorization = "" } = headers;
    // Health and reflection need no access token.
    const method = TREATMENTS.get(path)?.method;
    const arrival = new Arrival(stream, headers, method);
    const open = edge.takeStream(stream);
    if (open) open.user = arrival;
    if (open === undefined) this.#refuse(arrival, tooMuchAtOnce("streams"));
    else if (verb !== "POST") this.#refuseVerb(arrival, open);
    else if (hasBadTimeout(headers)) this.#refuse(arrival, BAD_TIMEOUT);
    else if (method === undefined) {
      edge.countUnauthenticated(open.connection);
      serve();
    } else if (!refusedCalls?.takeOver(arrival, stream, path, authorization)) {
      this.#identify(arrival, method, open, serve);
    }
  };

  /** Whether calls wait to hear who calls, such as for the keys of an issuer. */
  get isAdmitting(): boolean {
    return this.#admitting > 0;
  }

  /** The interceptors take a call that was let in. Returns its context values. */
  beginServing(stream: ServerHttp2Stream): ContextValues | undefined {
    const arrival = this.#arrivalOf(stream);
    if (arrival) arrival.isServed = true;
    return arrival?.values;
  }

  /** Logs, traces and counts a call that has failed after it was let in, as far as nobody else does. */
  noteFailure(stream: ServerHttp2Stream, error: ConnectError): void {
    const arrival = this.#arrivalOf(stream);
    const isOurs = arrival !== undefined && !arrival.isServed && !arrival.isNoted;
    if (isOurs) this.#note(arrival, error);
    else this.#options.metrics.refused(error.cause);
  }

  #arrivalOf(stream: ServerHttp2Stream): Arrival | undefined {
    const user = this.#options.edge.streamOf(stream)?.user;
    return user instanceof Arrival ? user : undefined;
  }

  /** Serves the call if it has an access token that permits it. */
  #identify(arrival: Arrival, method: DescMethod, open: OpenStream, serve: () => void): void {
    const pass = () => {
      if (arrival.stream.destroyed) return this.#note(arrival, CLIENT_GONE);
      open.connection.welcome();
      // Nobody else notes a call whose client leaves before its request is whole.
      arrival.onLeft = this.#noteLeaving;
      serve();
    };
    const refuse = (error: unknown) => this.#refuse(arrival, error);
    try {
      const admitting = this.#admit(arrival, method);
      // Awaiting the immediate answer about a cached token would cost a turn of the event loop.
      if (admitting === undefined) pass();
      else this.#during(admitting.then(pass, refuse));
    } catch (error) {
      refuse(error);
    }
  }

  #during(admitting: Promise<void>): void {
    this.#admitting++;
    void admitting.finally(() => this.#admitting--);
  }

  #admit({ header, values }: Arrival, method: DescMethod): void | Promise<void> {
    const { tracing, verifier, audit } = this.#options;
    const admitCall = () => admit({ header, method, contextValues: values }, verifier, audit);
    if (tracing === undefined) return admitCall();
    const span = tracing.startCall({ method, header, system: "grpc" });
    values.set(callSpanKey, span);
    return span ? span.run(admitCall) : admitCall();
  }

  #refuse(arrival: Arrival, reason: unknown): void {
    const { refusedCalls } = this.#options;
    const { stream, values } = arrival;
    const error = toConnectError(reason);
    this.#note(arrival, error);
    const send = () => {
      arrival.end();
      refuseStream(stream, trailersOnly(error));
    };
    if (refusedCalls === undefined || values.get(callerKey)) send();
    else stream.once("close", refusedCalls.pace(send));
  }

  /** No gRPC client sends anything but POST. */
  #refuseVerb({ stream }: Arrival, { connection }: OpenStream): void {
    stream.respond({ ":status": 405, allow: "POST" }, { endStream: true });
    this.#options.edge.countUnauthenticated(connection);
  }

  readonly #noteLeaving = (arrival: Arrival): void => this.#note(arrival, CLIENT_GONE);

  #note(arrival: Arrival, error: ConnectError): void {
    const { method, header, startMs, values } = arrival;
    const { metrics, logger } = this.#options;
    arrival.isNoted = true;
    metrics.refused(error.cause);
    if (method === undefined) return;
    values.get(callSpanKey)?.end(error);
    metrics.of(method).ended(error.code, startMs);
    logRefusal(logger, { method, contextValues: values, header }, startMs, error);
  }
}

function hasBadTimeout({ "grpc-timeout": timeout }: IncomingHttpHeaders): boolean {
  return timeout !== undefined && !GRPC_TIMEOUT.test(timeout.toString());
}
