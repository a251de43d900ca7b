// Servers, sessions and targets to measure VerifySession with.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toBinary, toJsonString } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { startRedisServer } from "@sessiond/core/testing";
import {
  SessionService,
  VerifySessionRequestSchema,
  type VerifySessionResponse,
  VerifySessionResponseSchema,
} from "@sessiond/proto/sessiond/v1/session_service";
import { load, type Target } from "./load.ts";
import { moveTo, type ServerProcess, startOn } from "./processes.ts";
import { type Measurement, WARM_UP_ROUNDS } from "./report.ts";

export const SERVER_CORE = "0";
export const LOAD_CORE = "1";
const METHOD = `/${SessionService.typeName}/VerifySession`;
const MAIN = new URL("../apps/server/dist/main.js", import.meta.url).pathname;

/** A typical session of a web application. */
const SESSION = {
  userId: "0b8b2b32-6a0e-4e8f-8a9c-5f5f1f0d8f53",
  displayName: "Ada Lovelace",
  roles: ["editor", "billing"],
  client: {
    ip: "203.0.113.7",
    userAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    device: "laptop",
  },
  data: { theme: "dark", locale: "en-GB", cart: ["sku-1", "sku-2"] },
  // So long that no call moves the last access time: all answers are the same.
  idleTimeout: durationFromMs(24 * 3_600_000),
};

/** A protocol on a port, to call VerifySession. */
export interface Protocol {
  readonly name: string;
  readonly port: "grpc" | "http";
  /** The HTTP version. */
  readonly version: 1 | 2;
  readonly headers: readonly string[];
  readonly bodyOf: (token: string) => string | Uint8Array;
  readonly answerOf: (response: VerifySessionResponse) => string | Uint8Array;
}

const GRPC_HEADERS = ["content-type: application/grpc", "te: trailers"];

export const PROTOCOLS = {
  grpc: {
    name: "sessiond gRPC port",
    port: "grpc",
    version: 2,
    headers: GRPC_HEADERS,
    bodyOf: (token) => frame(requestOf(token)),
    answerOf: (response) => frame(responseOf(response)),
  },
  grpcOverHttpPort: {
    name: "sessiond HTTP port (gRPC)",
    port: "http",
    version: 2,
    headers: GRPC_HEADERS,
    bodyOf: (token) => frame(requestOf(token)),
    answerOf: (response) => frame(responseOf(response)),
  },
  connectOverHttp2: {
    name: "sessiond HTTP port (Connect over HTTP/2)",
    port: "http",
    version: 2,
    headers: ["content-type: application/proto"],
    bodyOf: requestOf,
    answerOf: responseOf,
  },
  connect: {
    name: "sessiond HTTP port (Connect)",
    port: "http",
    version: 1,
    headers: ["content-type: application/proto"],
    bodyOf: requestOf,
    answerOf: responseOf,
  },
  json: {
    name: "sessiond HTTP port (JSON)",
    port: "http",
    version: 1,
    headers: ["content-type: application/json"],
    bodyOf: (token) => JSON.stringify({ token }),
    answerOf: (response) =>
      toJsonString(VerifySessionResponseSchema, response, { alwaysEmitImplicit: true }),
  },
} as const satisfies Record<string, Protocol>;

/** On a busy machine the event loop is late with any number of calls, and a server refuses some. */
export const WITHOUT_SHEDDING = {
  NODE_OPTIONS: `--import=${new URL("without-shedding.ts", import.meta.url)}`,
};

/** Ends the process if a tool is missing. */
export function requireTools(): void {
  const missing = ["taskset", "h2load", "redis-benchmark"].filter(
    (tool) => spawnSync(tool, ["--version"], { stdio: "ignore" }).status !== 0,
  );
  if (missing.length === 0) return;
  console.error(`bench: ${missing.join(" and ")} must be on the PATH; see --help`);
  process.exit(1);
}

/** How a server is started. Default: on the servers' core, with the defaults of all settings. */
interface StartOptions {
  readonly core?: string;
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts a development server with its keys in `dir`. */
export function startSessiond(
  dir: string,
  store: string,
  { core = SERVER_CORE, flags = [], env = {} }: StartOptions = {},
): Promise<ServerProcess> {
  const addresses = ["--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"];
  const args = [MAIN, "serve", "--dev", ...addresses, "--store", store, "--data-dir", dir];
  return startOn(core, [...args, ...flags], env);
}

/** Starts a server on Redis for calls by the SDK, which come from the other core. */
export async function startForSdk(stack: AsyncDisposableStack, permissions?: string) {
  requireTools();
  moveTo(LOAD_CORE, process.pid);
  const redis = stack.use(await startRedisServer());
  moveTo(LOAD_CORE, redis.pid);
  const dir = mkdtempSync(join(tmpdir(), "sessiond-bench-"));
  stack.defer(() => rmSync(dir, { recursive: true }));
  const server = await startSessiond(dir, redis.url, { env: WITHOUT_SHEDDING });
  stack.defer(() => server.stop());
  const { accessToken } = await createSession(server, dir, permissions);
  return { server, accessToken, baseUrl: `http://${server.addresses.get("grpc_address")}` };
}

/** An access token of the server with its keys in `dir`. */
export function mintAccessToken(dir: string, permissions: string): string {
  const args = [MAIN, "token", "--permissions", permissions, "--data-dir", dir];
  return execFileSync(process.execPath, args, { encoding: "utf8" }).trim();
}

/** Creates a session on a server, and checks that it verifies. */
export async function createSession(
  server: ServerProcess,
  dir: string,
  permissions = "sessions:create,sessions:read,sessions:delete",
) {
  const accessToken = mintAccessToken(dir, permissions);
  const headers = { authorization: `Bearer ${accessToken}` };
  const baseUrl = `http://${server.addresses.get("grpc_address")}`;
  const client = createClient(SessionService, createGrpcTransport({ baseUrl }));
  const { token } = await client.createSession(SESSION, { headers });
  const response = await client.verifySession({ token }, { headers });
  if (response.session?.userId !== SESSION.userId) throw new Error("the session does not verify");
  return { token, accessToken, response };
}

/** A session that was created on a server. */
type Created = Awaited<ReturnType<typeof createSession>>;

/** What calls VerifySession of the session on a server. */
export function targetOf(
  name: string,
  protocol: Protocol,
  server: ServerProcess,
  { token, accessToken, response }: Created,
  dir: string,
): Target & { readonly body: string } {
  const body = join(dir, `${server.addresses.get("grpc_address")}.body`);
  writeFileSync(body, protocol.bodyOf(token));
  return {
    name,
    url: `http://${server.addresses.get(`${protocol.port}_address`)}${METHOD}`,
    version: protocol.version,
    body,
    headers: [...protocol.headers, `authorization: Bearer ${accessToken}`],
    answerBytes: Buffer.byteLength(protocol.answerOf(response)),
    server,
  };
}

/** Measures a target and its peer in turn. */
export async function measureInTurn(
  target: Target,
  peer: Target,
  { calls, rounds }: { readonly calls: number; readonly rounds: number },
): Promise<Measurement> {
  const measurement: Measurement = { name: target.name, rounds: [] };
  for (let round = 1 - WARM_UP_ROUNDS; round <= rounds; round++) {
    // The order alternates, so that a machine that becomes slower favours neither.
    const peerFirst = round % 2 === 0;
    const before = peerFirst ? await load(peer, LOAD_CORE, calls) : undefined;
    const own = await load(target, LOAD_CORE, calls);
    const beside = before ?? (await load(peer, LOAD_CORE, calls));
    if (round > 0) measurement.rounds.push({ own, peer: beside });
  }
  return measurement;
}

/** The number that a flag gives. Ends the process if it is less than `least`. */
export function atLeast(least: number, flag: string, value: string): number {
  const number = Number(value);
  if (Number.isInteger(number) && number >= least) return number;
  console.error(`bench: --${flag}: expected a number of ${least} or more, got "${value}"`);
  process.exit(2);
}

function requestOf(token: string): Uint8Array {
  return toBinary(VerifySessionRequestSchema, create(VerifySessionRequestSchema, { token }));
}

export function responseOf(response: VerifySessionResponse): Uint8Array {
  return toBinary(VerifySessionResponseSchema, response);
}

/** Frames a message for gRPC. */
function frame(message: Uint8Array): Uint8Array {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}
