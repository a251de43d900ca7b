import type { DescMessage } from "@bufbuild/protobuf";
import { Code, type ConnectError, type HandlerContext } from "@connectrpc/connect";
import { ENVELOPE_BYTES } from "@sessiond/connect-grpc-js";
import type { Logger } from "pino";
import type { AccessTokenVerifier } from "../auth/access-token.js";
import { callerKey } from "../auth/caller.js";
import { type Admittance, admit } from "../interceptors/admit.js";
import { logEarlyFailure, logRefusal } from "../interceptors/log-calls.js";
import type { Audit } from "../observability/audit.js";
import type { PortMetrics } from "../observability/rpc-metrics.js";
import { callSpanKey, type Tracing } from "../observability/tracing.js";
import { InexactNumber } from "../services/exact-numbers.js";
import {
  fieldOfBytes,
  fieldOfJson,
  type MalformedField,
  pathOfKeys,
} from "../services/malformed-field.js";
import { describeMalformed, toConnectError, withoutQuotedSecrets } from "../services/rpc-error.js";
import { httpClientKey } from "./http-client.js";
import type { Response } from "./http-messages.js";
import type { RefusedCalls } from "./refused-calls.js";
import { isEnveloped, requestBodyKey } from "./request-body.js";

/** A unary call whose headers have come. */
export interface Arrival extends Admittance {
  readonly startMs: number;
  readonly response: Response;
}

interface RequestGateOptions {
  readonly logger: Logger;
  readonly verifier: AccessTokenVerifier;
  readonly audit: Audit;
  readonly tracing?: Tracing | undefined;
  readonly metrics: PortMetrics;
  /** By default refusals are sent at once. */
  readonly refusedCalls?: RefusedCalls | undefined;
}

/**
 * Authenticates and authorizes the calls of the HTTP port before anything of them is read, so strangers
 * cannot make the server parse. What fails before the interceptors is logged, traced and counted as on
 * the gRPC port.
 */
export class RequestGate {
  readonly #options: RequestGateOptions;

  constructor(options: RequestGateOptions) {
    this.#options = options;
  }

  /** Returns once the call is admitted. Throws or rejects with a ConnectError, in its turn. */
  admit(arrival: Arrival): void | Promise<void> {
    const refuse = (error: unknown) => this.#refuse(arrival, error);
    try {
      const admitting = this.#traced(arrival, "connectrpc");
      // Awaiting the immediate answer about a cached token would cost a turn of the event loop.
      return admitting?.catch(refuse);
    } catch (error) {
      return refuse(error);
    }
  }

  /** Logs, traces and counts a call that fails before the interceptors. */
  note({ method, contextValues, header, startMs }: Arrival, error: ConnectError): void {
    const { logger, metrics } = this.#options;
    contextValues.get(callSpanKey)?.end(error);
    metrics.of(method).ended(error.code, startMs);
    metrics.refused(error.cause);
    logRefusal(logger, { method, contextValues, header }, startMs, error);
  }

  /** The same as Connect's request gate. Connect reads and parses before the interceptors run. */
  readonly forConnect = async (context: HandlerContext): Promise<void> => {
    const { logger, metrics, refusedCalls } = this.#options;
    const startMs = performance.now();
    let isOpen = false;
    const { requestHeader: header, method, values: contextValues } = context;
    // Connect sends the same error object that it aborts the signal with. So we can give its own
    // errors the contract's form here.
    logEarlyFailure(logger, context, (error) => {
      withoutQuotedSecrets(error);
      if (isOpen) completeReadError(error, requestOf(context));
      contextValues.get(callSpanKey)?.end(error);
      metrics.of(method).ended(error.code, startMs);
      metrics.refused(error.cause);
    });
    try {
      const system = context.protocolName === "connect" ? "connectrpc" : "grpc";
      await this.#traced({ header, method, contextValues }, system);
    } catch (error) {
      const { signal } = context;
      const onGone = (listener: () => void) => signal.addEventListener("abort", listener);
      if (contextValues.get(callerKey) === undefined) await turnOf(refusedCalls, onGone);
      throw toConnectError(error);
    }
    contextValues.get(httpClientKey)?.welcome();
    isOpen = true;
  };

  #traced(call: Admittance, system: "connectrpc" | "grpc"): void | Promise<void> {
    const { tracing, verifier, audit } = this.#options;
    const { header, method, contextValues } = call;
    const span = tracing?.startCall({ method, header, system });
    contextValues.set(callSpanKey, span);
    const admitCall = () => admit(call, verifier, audit);
    return span ? span.run(admitCall) : admitCall();
  }

  async #refuse(arrival: Arrival, reason: unknown): Promise<never> {
    const { contextValues, response } = arrival;
    const error = toConnectError(reason);
    this.note(arrival, error);
    const onGone = (listener: () => void) => response.once("close", listener);
    if (contextValues.get(callerKey) === undefined) {
      await turnOf(this.#options.refusedCalls, onGone);
    }
    throw error;
  }
}

/** Waits until a stranger's call may be refused, or its client has gone. */
function turnOf(
  refusedCalls: RefusedCalls | undefined,
  onGone: (listener: () => void) => void,
): Promise<void> | undefined {
  if (refusedCalls === undefined) return undefined;
  return new Promise<void>((resolve) => {
    const takeBack = refusedCalls.pace(resolve);
    onGone(() => {
      takeBack();
      resolve();
    });
  });
}

/** A request that is not compressed. */
export interface ReadRequest {
  readonly input: DescMessage;
  readonly type: string;
  /** Its message. Undefined if it was not read, or is compressed. */
  readonly message: Uint8Array | undefined;
}

function requestOf({ method, requestHeader, values }: HandlerContext): ReadRequest {
  const type = requestHeader.get("content-type") ?? "";
  const body = requestHeader.has("content-encoding") ? undefined : values.get(requestBodyKey);
  const message = isEnveloped(type) ? body?.bytes.subarray(ENVELOPE_BYTES) : body?.bytes;
  return { input: method.input, type, message };
}

/** Gives Connect's error about a request the contract's form. Malformed bytes are the caller's mistake. */
export function completeReadError(error: ConnectError, request: ReadRequest): void {
  // Connect calls them INTERNAL.
  if (error.code === Code.Internal) Object.assign(error, { code: Code.InvalidArgument });
  if (error.code !== Code.InvalidArgument) return;
  if (error.cause instanceof InexactNumber) describeInexact(error, error.cause, request);
  else describeMalformed(error, malformedField(request));
}

/** The log cuts what follows "from JSON", so it does not learn the keys of a session's data. */
function describeInexact(error: ConnectError, { path }: InexactNumber, { input }: ReadRequest) {
  const field = pathOfKeys(input, path);
  const why = `${field} has more digits than a double can hold; send it as a string`;
  Object.assign(error, { rawMessage: `${error.rawMessage}: ${why}` });
  describeMalformed(error, { path: field, isKnown: false });
}

/** The field that kept a request from being parsed. */
function malformedField({ input, type, message }: ReadRequest): MalformedField | undefined {
  if (message === undefined) return undefined;
  return type.includes("json") ? fieldOfJson(input, message) : fieldOfBytes(input, message);
}
