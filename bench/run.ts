// Measures VerifySession on both ports against a bare grpc-js server, each on one core, and writes
// RESULTS.md.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startRedisServer } from "@sessiond/core/testing";
import { moveTo, startOn } from "./processes.ts";
import { type Measurement, PEER, ratioOf, report } from "./report.ts";
import { writeSection } from "./results.ts";
import {
  atLeast,
  createSession,
  LOAD_CORE,
  measureInTurn,
  PROTOCOLS,
  type Protocol,
  requireTools,
  responseOf,
  SERVER_CORE,
  startSessiond,
  targetOf,
} from "./verify-session.ts";

const ECHO = new URL("echo-server.ts", import.meta.url).pathname;

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
  const created = await createSession(sessiond, dir);
  const responseFile = join(dir, "response");
  writeFileSync(responseFile, responseOf(created.response));
  const echo = await startOn(SERVER_CORE, [ECHO, responseFile]);
  stack.defer(() => echo.stop());

  const target = targetOf(name, protocol, sessiond, created, dir);
  const peer = targetOf(PEER, PROTOCOLS.grpc, echo, created, dir);
  const measurement = await measureInTurn(target, peer, { calls, rounds });
  console.log(`${name}: ${ratioOf(measurement).toFixed(2)} of the peer`);
  return measurement;
}
