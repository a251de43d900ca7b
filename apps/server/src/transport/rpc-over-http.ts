import { type IncomingHttpHeaders, IncomingMessage } from "node:http";
import type { DescMessage } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ContextValues,
  createConnectRouter,
  createContextValues,
} from "@connectrpc/connect";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import {
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import { ENVELOPE_BYTES, joinAuthorization, limitGrpcTimeout } from "@sessiond/connect-grpc-js";
import type { Logger } from "pino";
import { admittedKey } from "../admission/admission.js";
import type { PortMetrics } from "../observability/rpc-metrics.js";
import { checkElements } from "../services/message-elements.js";
import { clientCertificateKey, clientCertificateOf } from "../tls/client-certificate.js";
import { chargeAnswer } from "./charge-answer.js";
import { boundedCompressions } from "./compressions.js";
import { ConnectUnary, JSON_OPTIONS } from "./connect-unary.js";
import { errorAnswer, writeAnswer } from "./error-answer.js";
import { type HttpClient, httpClientKey } from "./http-client.js";
import type { Request, Response } from "./http-messages.js";
import type { PortOptions } from "./port.js";
import { NO_HOST, quoted, type Refusal, type Refuse } from "./refusal.js";
import type { RefusedCalls } from "./refused-calls.js";
import { isEnveloped, RequestBody, requestBodyKey } from "./request-body.js";
import type { RequestGate } from "./request-gate.js";

/** What serves RPC over HTTP, besides the address. */
export interface RpcOptions extends Omit<PortOptions, "address"> {
  readonly logger: Logger;
  readonly portMetrics: PortMetrics;
  /** By default there never are too many calls. */
  readonly refusedCalls?: RefusedCalls;
  /** Admits calls before they are read. */
  readonly requestGate: RequestGate;
}

/** A timer of Node with a longer delay fires at once. A client enforces its deadline itself, too. */
const MAX_TIMER_MS = 2 ** 31 - 1;
const DIGITS = /^\d+$/;

/** `application/json; charset="UTF-8"`, as some clients write it. Connect knows fewer spellings. */
const WITH_CHARSET = /^([^\s;]+)\s*;\s*charset="?utf-?8"?\s*;?\s*$/i;

/**
 * Serves Connect, gRPC-Web and JSON, and gRPC where a response can have trailers. Like
 * connect-node's own adapter, but what it refuses says in Connect's JSON what was expected.
 */
export function createRpcHandler(
  {
    edge,
    logger,
    routes,
    interceptors,
    requestGate,
    shutdownSignal,
    refusedCalls,
    portMetrics,
  }: RpcOptions,
  { hasGrpc, refuse }: { readonly hasGrpc: boolean; readonly refuse: Refuse },
): (request: Request, response: Response, path: string, client: HttpClient) => void {
  const { maxMessageBytes } = edge.limits;
  const router = createConnectRouter({
    interceptors: [...interceptors],
    requestGate: requestGate.forConnect,
    grpc: hasGrpc,
    readMaxBytes: maxMessageBytes,
    acceptCompression: boundedCompressions(edge),
    shutdownSignal,
    jsonOptions: JSON_OPTIONS,
  });
  routes(router);
  const unary = new ConnectUnary({
    ...{ edge, requestGate, routes, interceptors, shutdownSignal, portMetrics },
  });
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  return (request, response, path, client) => {
    const handler = handlers.get(path);
    if (handler === undefined) {
      client.countUnauthenticated();
      return refuse(response, nothingAt(path));
    }
    if (refusedCalls?.takeOverHttp(client, request, response, path)) return;
    const type = request.headers["content-type"];
    correctHeaders(request);
    const exchange = { request, response, client, type, portMetrics, maxMessageBytes };
    const serving = unary.serve(exchange, path) ?? serve(handler, exchange, refuse);
    serving.catch((error: unknown) => {
      // A client that has gone is no fault.
      if (ConnectError.from(error).code === Code.Aborted) return;
      logger.info({ err: error }, "an answer could not be sent");
    });
  };
}

/** A request, and what belongs to it. */
interface Exchange {
  readonly request: Request;
  readonly response: Response;
  readonly client: HttpClient;
  /** As the client sent it. */
  readonly type: string | undefined;
  readonly portMetrics: PortMetrics;
  readonly maxMessageBytes: number;
}

async function serve(handler: UniversalHandler, exchange: Exchange, refuse: Refuse) {
  const { request, response, client, type, portMetrics } = exchange;
  const values = readWhole(exchange, handler);
  let universal: ReturnType<typeof universalRequestFromNodeRequest>;
  try {
    universal = universalRequestFromNodeRequest(request, response, undefined, values);
  } catch {
    return refuse(response, NO_HOST);
  }
  const answer = await handler(universal);
  if (answer.status === 405) return refuse(response, methodNotAllowed(handler, request));
  if (answer.status === 415) return refuse(response, unsupportedType(handler, request, type));
  const body = answer.body && chargeAnswer(answer.body, client.memory);
  try {
    await universalResponseToNodeResponse({ ...answer, ...(body && { body }) }, response);
  } catch (error) {
    const failure = ConnectError.from(error);
    if (failure.code !== Code.ResourceExhausted) throw error;
    portMetrics.refused(failure.cause);
    if (response.headersSent) response.destroy();
    else writeAnswer(request, response, errorAnswer(failure));
  }
}

/** Gives Connect the values of headers in a form that it understands. */
function correctHeaders({ headers, rawHeaders }: Request): void {
  const { "content-type": type, "connect-timeout-ms": timeout, "grpc-timeout": grpc } = headers;
  const charset = type?.includes(";") ? WITH_CHARSET.exec(type) : null;
  if (charset?.[1] !== undefined) headers["content-type"] = charset[1];
  if (typeof timeout === "string" && DIGITS.test(timeout) && Number(timeout) > MAX_TIMER_MS) {
    headers["connect-timeout-ms"] = String(MAX_TIMER_MS);
  }
  if (typeof grpc === "string") headers["grpc-timeout"] = limitGrpcTimeout(grpc);
  // Node keeps only the first of several.
  if (headers.authorization !== undefined) headers.authorization = joinAuthorization(rawHeaders);
}

/** Makes Connect read a request in one piece, and keeps the body so errors can name a field. */
function readWhole(
  { request, client, maxMessageBytes: maxBytes }: Exchange,
  { method }: UniversalHandler,
): ContextValues {
  const check = (bytes: Uint8Array) => checkBinary(request.headers, method.input, bytes);
  const body = new RequestBody(request, { maxBytes, memory: client.memory, check });
  request[Symbol.asyncIterator] = () => body[Symbol.asyncIterator]();
  return createContextValues()
    .set(requestBodyKey, body)
    .set(httpClientKey, client)
    .set(clientCertificateKey, clientCertificateOf(request))
    .set(admittedKey, client.admitted);
}

/** JSON is looked at once it is unpacked, and a packed binary body not at all. */
function checkBinary(headers: IncomingHttpHeaders, input: DescMessage, bytes: Uint8Array): void {
  const { "content-type": type = "", "content-encoding": encoding } = headers;
  if (type.includes("json") || encoding !== undefined) return;
  checkElements(input, isEnveloped(type) ? bytes.subarray(ENVELOPE_BYTES) : bytes);
}

/** Not NOT_FOUND: a wrong URL must not read like a session that has ended. */
function nothingAt(path: string): Refusal {
  const expected = "POST /<service>/<method>, such as /sessiond.v1.SessionService/VerifySession";
  const message = `there is nothing at ${quoted(path)}; expected ${expected}`;
  return { status: 404, code: Code.Unimplemented, message };
}

function methodNotAllowed(handler: UniversalHandler, { method = "" }: Request): Refusal {
  const allowed = handler.allowedMethods;
  const message = `expected ${allowed.join(" or ")}, got ${quoted(method)}`;
  const headers = { allow: allowed.join(", ") };
  return { status: 405, code: Code.Unimplemented, message, headers };
}

function unsupportedType({ method }: UniversalHandler, request: Request, type = "none"): Refusal {
  const refusal = { status: 415, code: Code.InvalidArgument };
  if (request.method === "GET") {
    return { ...refusal, message: "expected encoding=json or encoding=proto in the query" };
  }
  const connect = method.methodKind === "unary" ? "application/" : "application/connect+";
  const types = [`${connect}json`, `${connect}proto`, "application/grpc-web"];
  if (!(request instanceof IncomingMessage)) types.push("application/grpc");
  const list = new Intl.ListFormat("en", { type: "disjunction" }).format(types);
  return { ...refusal, message: `expected the content type ${list}, got ${quoted(type)}` };
}
