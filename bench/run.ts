// Measures VerifySession on both ports against a bare grpc-js server, each on one core, and writes
// RESULTS.md.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
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
import { type Measurement, PEER, ratioOf, report, WARM_UP_ROUNDS } from "./report.ts";
import { writeSection } from "./results.ts";

const SERVER_CORE = "0";
const LOAD_CORE = "1";
const METHOD = `/${SessionService.typeName}/VerifySession`;
const MAIN = new URL("../apps/server/dist/main.js", import.meta.url).pathname;
const ECHO = new URL("echo-server.ts", import.meta.url).pathname;

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
interface Protocol {
  readonly name: string;
  readonly port: "grpc" | "http";
  /** The HTTP version. */
  readonly version: 1 | 2;
  readonly headers: readonly string[];
  readonly bodyOf: (token: string) => string | Uint8Array;
  readonly answerOf: (response: VerifySessionResponse) => string | Uint8Array;
}

const GRPC_HEADERS = ["content-type: application/grpc", "te: trailers"];

const PROTOCOLS = {
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
    answerOf: (response) => toJsonString(VerifySessionResponseSchema, response),
  },
} as const satisfies Record<string, Protocol>;

const { values } = parseArgs({
  options: {
    calls: { type: "string", default: "5000" },
    rounds: { type: "string", default: "30" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(`Usage: pnpm bench [--calls N] [--rounds N]

Makes N calls of VerifySession (default 5000) on each target and on its peer in
turn, N rounds (default 30), and writes bench/RESULTS.md. Needs redis-server,
taskset and h2load (Debian: apt-get install redis-server util-linux
nghttp2-client), and two cores.`);
} else {
  await main(atLeast(100, "calls", values.calls), atLeast(4, "rounds", values.rounds));
}

function atLeast(least: number, flag: string, value: string): number {
  const number = Number(value);
  if (Number.isInteger(number) && number >= least) return number;
  console.error(`bench: --${flag}: expected a number of ${least} or more, got "${value}"`);
  process.exit(2);
}

async function main(calls: number, rounds: number): Promise<void> {
  requireTools();
  // This process reads the servers' logs, and must not use their core.
  moveTo(LOAD_CORE, process.pid);
  const dir = mkdtempSync(join(tmpdir(), "sessiond-bench-"));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rmSync(dir, { recursive: true }));
  const redis = stack.use(await startRedisServer());
  moveTo(LOAD_CORE, redis.pid);
  const sqlite = `sqlite:${join(dir, "sessions.db")}`;

  const measurements: Measurement[] = [];
  for (const [store, protocol, url] of [
    ["Redis", PROTOCOLS.grpc, redis.url],
    ["Redis", PROTOCOLS.grpcOverHttpPort, redis.url],
    ["Redis", PROTOCOLS.connectOverHttp2, redis.url],
    ["Redis", PROTOCOLS.connect, redis.url],
    ["Redis", PROTOCOLS.json, redis.url],
    ["SQLite", PROTOCOLS.grpc, sqlite],
    ["SQLite", PROTOCOLS.connect, sqlite],
  ] as const) {
    const name = `${protocol.name}, ${store}`;
    measurements.push(await measure(name, protocol, url, { dir, calls, rounds }));
  }
  const text = report(measurements, {
    command: `pnpm bench --calls ${calls} --rounds ${rounds}`,
    machine: `Node ${process.versions.node}, ${cpus().length} cores`,
  });
  writeSection("VerifySession, beside a bare grpc-js server", text);
}

/** Starts a server and a peer, and measures a protocol on them in turn. */
async function measure(
  name: string,
  protocol: Protocol,
  store: string,
  { dir, calls, rounds }: { readonly dir: string; readonly calls: number; readonly rounds: number },
): Promise<Measurement> {
  await using stack = new AsyncDisposableStack();
  const sessiond = await startSessiond(dir, store);
  stack.defer(() => sessiond.stop());
  const { token, accessToken, response } = await createSession(sessiond, dir);
  const responseFile = join(dir, "response");
  writeFileSync(responseFile, responseOf(response));
  const echo = await startOn(SERVER_CORE, [ECHO, responseFile]);
  stack.defer(() => echo.stop());

  const targetOf = (name: string, protocol: Protocol, server: ServerProcess): Target => {
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
  };
  const target = targetOf(name, protocol, sessiond);
  const peer = targetOf(PEER, PROTOCOLS.grpc, echo);
  const measurement: Measurement = { name, rounds: [] };
  for (let round = 1 - WARM_UP_ROUNDS; round <= rounds; round++) {
    // The order alternates, so that a machine that becomes slower favours neither.
    const peerFirst = round % 2 === 0;
    const before = peerFirst ? await load(peer, LOAD_CORE, calls) : undefined;
    const own = await load(target, LOAD_CORE, calls);
    const beside = before ?? (await load(peer, LOAD_CORE, calls));
    if (round > 0) measurement.rounds.push({ own, peer: beside });
  }
  console.log(`${name}: ${ratioOf(measurement).toFixed(2)} of the peer`);
  return measurement;
}

function requireTools(): void {
  const missing = ["taskset", "h2load"].filter(
    (tool) => spawnSync(tool, ["--version"], { stdio: "ignore" }).status !== 0,
  );
  if (missing.length === 0) return;
  console.error(`bench: ${missing.join(" and ")} must be on the PATH; see --help`);
  process.exit(1);
}

function startSessiond(dir: string, store: string): Promise<ServerProcess> {
  const addresses = ["--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"];
  const args = [MAIN, "serve", "--dev", ...addresses, "--store", store, "--data-dir", dir];
  return startOn(SERVER_CORE, args);
}

/** Creates a session on a server, and checks that it verifies. */
async function createSession(server: ServerProcess, dir: string) {
  const permissions = "sessions:create,sessions:read";
  const accessToken = execFileSync(
    process.execPath,
    [MAIN, "token", "--permissions", permissions, "--data-dir", dir],
    { encoding: "utf8" },
  ).trim();
  const headers = { authorization: `Bearer ${accessToken}` };
  const baseUrl = `http://${server.addresses.get("grpc_address")}`;
  const client = createClient(SessionService, createGrpcTransport({ baseUrl }));
  const { token } = await client.createSession(SESSION, { headers });
  const response = await client.verifySession({ token }, { headers });
  if (response.session?.userId !== SESSION.userId) throw new Error("the session does not verify");
  return { token, accessToken, response };
}

function requestOf(token: string): Uint8Array {
  return toBinary(VerifySessionRequestSchema, create(VerifySessionRequestSchema, { token }));
}

function responseOf(response: VerifySessionResponse): Uint8Array {
  return toBinary(VerifySessionResponseSchema, response);
}

/** Frames a message for gRPC. */
function frame(message: Uint8Array): Uint8Array {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}
