import { Code, createContextValues } from "@connectrpc/connect";
import { SessiondError } from "@sessiond/core";
import type { AccessTokenVerifier } from "../auth/access-token.js";
import type { Caller } from "../auth/caller.js";
import { claimedFields } from "../auth/token-refusals.js";
import { bearerToken } from "../interceptors/admit.js";
import type { Audit } from "../observability/audit.js";
import type { PortMetrics } from "../observability/rpc-metrics.js";
import { toConnectError } from "../services/rpc-error.js";
import type { ConsoleFile } from "./console-files.js";
import type { HttpClient } from "./http-client.js";
import { hasGone, type Request, type Response } from "./http-messages.js";
import { quoted, refuse } from "./refusal.js";

const PATH = "/console";
const CONFIG_PATH = "config.json";
const CALLER_PATH = "caller.json";
const YEAR_S = 365 * 86_400;
/** Clients that refuse gzip say so by a quality of zero (RFC 9110, 12.4.2). */
const TAKES_GZIP = /\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))/i;

/** The operators' console. */
export interface ConsoleConfig {
  /** Whether the page takes an access token from the link that a development server prints. */
  readonly isDevelopment: boolean;
  /** Undefined if nobody logs in at an issuer. */
  readonly login: ConsoleLogin | undefined;
}

/** What the console's authorization requests say, besides what the page itself decides. */
export interface ConsoleLogin {
  readonly clientId: string;
  readonly scope: string;
  readonly parameters: Readonly<Record<string, string>>;
}

/** What the console is made of. */
export interface ConsoleOptions {
  readonly config: ConsoleConfig;
  /** By their paths below `/console/`. */
  readonly files: ReadonlyMap<string, ConsoleFile>;
  /** The URL of the issuer where operators log in. It may change while the server runs. */
  readonly issuer: () => string | undefined;
  readonly verifier: AccessTokenVerifier;
  readonly audit: Audit;
  readonly portMetrics: PortMetrics;
  /** Runs the answer to a stranger, now or in its turn. */
  readonly pace: (answer: () => void) => void;
}

/** Answers a request for the console. Returns false for any other path. */
export type Console = (
  path: string | undefined,
  request: Request,
  response: Response,
  client: HttpClient,
) => boolean;

/**
 * Serves the operators' console: its files, where to log in, and what a caller's own access token
 * permits. All else the page asks for by calls, as any client does.
 */
export function createConsole(options: ConsoleOptions): Console {
  const { config, files } = options;
  return (path, request, response, client) => {
    if (path !== PATH && !path?.startsWith(`${PATH}/`)) return false;
    const issuer = config.login && options.issuer();
    setSecurityHeaders(response, issuer);
    const name = path.slice(PATH.length + 1);
    if (name !== CALLER_PATH) client.countUnauthenticated();
    if (request.method !== "GET" && request.method !== "HEAD") {
      const message = `expected GET or HEAD, got ${quoted(request.method ?? "")}`;
      const headers = { allow: "GET, HEAD" };
      refuse(response, { status: 405, code: Code.Unimplemented, message, headers });
      return true;
    }
    const file = files.get(name === "" ? "index.html" : name);
    if (file !== undefined) sendFile(file, request, response);
    else if (name === CONFIG_PATH) sendJson(request, response, pageConfig(config, issuer));
    else if (name === CALLER_PATH) void answerCaller(options, request, response, client);
    else refuse(response, nothingAt(path));
    return true;
  };
}

/** What the page needs before anybody has logged in. */
function pageConfig({ isDevelopment, login }: ConsoleConfig, issuer: string | undefined): object {
  return { isDevelopment, ...(login && issuer !== undefined && { login: { issuer, ...login } }) };
}

/**
 * Tells a caller what its own access token permits, so that the page shows nothing that would only be
 * refused. Who may do what is decided by each call all the same.
 */
async function answerCaller(
  { verifier, audit, portMetrics, pace }: ConsoleOptions,
  request: Request,
  response: Response,
  client: HttpClient,
): Promise<void> {
  const { authorization = null } = request.headers;
  let caller: Caller;
  try {
    caller = await verifier.verify(bearerToken(authorization));
  } catch (error) {
    client.countUnauthenticated();
    portMetrics.refused(error);
    if (error instanceof SessiondError && error.reason === "UNAUTHENTICATED") {
      const fields = { reason: error.detail, ...claimedFields(error), method: PATH };
      const header = { get: () => null };
      audit.record("access_token.refused", fields, { values: createContextValues(), header });
    }
    const { code, rawMessage: message } = toConnectError(error);
    const status = code === Code.Unauthenticated ? 401 : 503;
    pace(() => {
      if (!hasGone(response)) refuse(response, { status, code, message });
    });
    return;
  }
  client.welcome();
  const { subject, namespace, permissions } = caller;
  sendJson(request, response, { subject, namespace, permissions: [...permissions] });
}

function sendFile(file: ConsoleFile, request: Request, response: Response): void {
  const { "if-none-match": known, "accept-encoding": encodings = "" } = request.headers;
  response.setHeader("etag", file.etag);
  const caching = file.isHashed ? `public, max-age=${YEAR_S}, immutable` : "no-cache";
  response.setHeader("cache-control", caching);
  // CORS may have said that it varies with the origin, too.
  response.appendHeader("vary", "accept-encoding");
  if (known?.includes(file.etag)) {
    response.statusCode = 304;
    response.end();
    return;
  }
  response.setHeader("content-type", file.type);
  const takesGzip = TAKES_GZIP.test(String(encodings));
  if (takesGzip) response.setHeader("content-encoding", "gzip");
  send(request, response, takesGzip ? file.gzipped : file.body);
}

function sendJson(request: Request, response: Response, json: object): void {
  response.setHeader("cache-control", "no-store");
  response.setHeader("content-type", "application/json");
  send(request, response, Buffer.from(JSON.stringify(json)));
}

function send(request: Request, response: Response, body: Buffer): void {
  response.setHeader("content-length", body.length);
  if (request.method === "HEAD") response.end();
  else response.end(body);
}

/** A page that shows strangers' texts to operators runs nothing and tells nobody else anything. */
function setSecurityHeaders(response: Response, issuer: string | undefined): void {
  const origin = issuer === undefined ? "" : ` ${URL.parse(issuer)?.origin ?? ""}`;
  const policy = [
    ...["default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'"],
    `connect-src 'self'${origin}`,
    ...["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"],
    // Nothing is ever parsed as HTML, not even by mistake.
    ...["require-trusted-types-for 'script'", "trusted-types 'none'"],
  ];
  response.setHeader("content-security-policy", policy.join("; "));
  response.setHeader("cross-origin-opener-policy", "same-origin");
  response.setHeader("cross-origin-resource-policy", "same-origin");
  response.setHeader("referrer-policy", "no-referrer");
  response.setHeader("x-content-type-options", "nosniff");
}

function nothingAt(path: string) {
  const message = `there is nothing at ${quoted(path)}; expected ${PATH}`;
  return { status: 404, code: Code.Unimplemented, message };
}
