import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { END_HEADERS, frame, headerBlock, NO_SETTINGS, PREFACE } from "./http2-frames.js";
import { clientOver, GRPC, JSON_OVER_HTTP } from "./protocols.js";
import { scrape } from "./scrape.js";
import {
  developmentToken,
  type ListeningServerProcess,
  type ServerProcessOptions,
  spawnServer,
} from "./server-process.js";
import { temporaryDirectory } from "./temporary-directory.js";

/** How long each attack goes on: a moment in CI, or as long as you like. */
export const ATTACK_MS = Number(process.env["SESSIOND_TEST_ATTACK_MS"] ?? 1_000);
/** So that CI need not wait for ten seconds where something must be cut. */
export const REQUEST_TIMEOUT_MS = 2_000;
/** Another client calls this often. */
const CALL_EVERY_MS = 20;
/** Generous: machines of CI are slow. On a quiet one, 100 ms are enough. */
const MAX_P99_MS = Number(process.env["SESSIOND_TEST_ATTACK_P99_MS"] ?? 3_000);
/** For how long the event loop may do nothing else. On a quiet machine, 50 ms are enough. */
const MAX_BLOCKED_MS = Number(process.env["SESSIOND_TEST_ATTACK_BLOCKED_MS"] ?? 1_000);
const MAX_GROWTH_MIB = 150;

export type PortName = "gRPC" | "HTTP";
export const PORTS: readonly PortName[] = ["gRPC", "HTTP"];

/** Opens a socket to an address. With TLS, a test would open another kind. */
export type OpenSocket = (port: number) => Socket;

const openTcp: OpenSocket = (port) => connect(port, "127.0.0.1").setNoDelay();

/** A server in a process of its own, and an access token of an attacker with every permission. */
export interface AttackedServer extends AsyncDisposable {
  readonly process: ListeningServerProcess;
  readonly token: string;
  /** Of another caller, who has a session. */
  readonly bystanderToken: string;
  readonly sessionToken: string;
  open(port: PortName): Socket;
  /** In MiB. */
  memory(): number;
  /** For how long its event loop was blocked at most since this was asked last. */
  longestBlockMs(): Promise<number>;
  /** How many sockets of clients its process has. */
  sockets(): Promise<number>;
}

export async function startAttackedServer(
  { env, ...options }: Pick<ServerProcessOptions, "env" | "maxFiles"> = {},
  openSocket: OpenSocket = openTcp,
): Promise<AttackedServer> {
  await using opened = new AsyncDisposableStack();
  const directory = opened.use(await temporaryDirectory());
  const process = opened.use(
    await spawnServer({
      ...options,
      flags: ["--dev", "--data-dir", directory.path],
      env: {
        SESSIOND_STORE: "sqlite::memory:",
        // So few that the server does not lower it by itself on a slow machine.
        SESSIOND_MAX_CALLS_IN_FLIGHT: "100",
        SESSIOND_REQUEST_TIMEOUT: `${REQUEST_TIMEOUT_MS / 1000}s`,
        ...env,
      },
    }),
  );
  const token = await developmentToken(directory.path, "attacker");
  const bystanderToken = await developmentToken(directory.path, "bystander");
  const { grpcUrl, httpUrl } = process;
  const bystander = clientOver(GRPC, { grpcUrl, httpUrl, accessToken: bystanderToken });
  const { token: sessionToken } = await bystander.createSession({ userId: "bystander" });
  const closing = opened.move();
  const metric = async (name: string) => (await scrape(process.httpUrl)).sum(name) ?? Number.NaN;
  const urls = { gRPC: process.grpcUrl, HTTP: process.httpUrl };
  return {
    process,
    token,
    bystanderToken,
    sessionToken,
    open: (port) => {
      const socket = openSocket(Number(new URL(urls[port]).port));
      // Being cut is what an attacker expects.
      socket.on("error", () => {}).resume();
      closing.defer(() => void socket.destroy());
      return socket;
    },
    memory: () => {
      const status = readFileSync(`/proc/${process.pid}/status`, "utf8");
      return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
    },
    longestBlockMs: async () => 1_000 * (await metric("nodejs_eventloop_lag_max_seconds")),
    sockets: () => metric("sessiond_connections"),
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}

/** A connection of HTTP/2 that has begun well. */
export function beginHttp2(socket: Socket, settings = NO_SETTINGS): void {
  socket.write(Buffer.concat([PREFACE, settings]));
}

/** The HEADERS of a gRPC call. */
export function grpcHeaders(
  stream: number,
  path: string,
  { headers = {}, flags = END_HEADERS }: { headers?: Record<string, string>; flags?: number } = {},
): Buffer {
  const all = {
    ":method": "POST",
    ":scheme": "http",
    ":path": path,
    ":authority": "x",
    "content-type": "application/grpc",
    te: "trailers",
    ...headers,
  };
  return frame("HEADERS", { stream, flags, payload: headerBlock(all) });
}

/**
 * Runs an attack while another client verifies a session on the same port, as every page view does.
 * Fails unless all calls of that client pass, in time, the event loop goes on, and the memory stays
 * within its bound.
 */
export async function withstand(
  server: AttackedServer,
  port: PortName,
  attack: () => Promise<unknown>,
): Promise<void> {
  const { grpcUrl, httpUrl } = server.process;
  const protocol = port === "gRPC" ? GRPC : JSON_OVER_HTTP;
  const client = clientOver(protocol, { grpcUrl, httpUrl, accessToken: server.bystanderToken });
  const { sessionToken: token } = server;
  // What came before the attack is no part of it.
  await server.longestBlockMs();
  const beforeMib = server.memory();
  let mostMib = beforeMib;
  let isOver = false;
  const tookMs: number[] = [];
  const calling = (async () => {
    while (!isOver) {
      const startMs = performance.now();
      await client.verifySession({ token });
      tookMs.push(performance.now() - startMs);
      mostMib = Math.max(mostMib, server.memory());
      await sleep(CALL_EVERY_MS);
    }
  })();
  await Promise.all([attack().finally(() => (isOver = true)), calling]);
  tookMs.sort((a, b) => a - b);
  const p99Ms = tookMs[Math.ceil(tookMs.length * 0.99) - 1] ?? Number.NaN;
  const grownMib = mostMib - beforeMib;
  const blockedMs = await server.longestBlockMs();
  if (process.env["SESSIOND_TEST_ATTACK_FIGURES"]) {
    const { currentTestName } = expect.getState();
    const figures = [
      `p99 ${p99Ms.toFixed(0)} ms of ${tookMs.length} calls`,
      `+${grownMib.toFixed(0)} MiB`,
      `blocked ${blockedMs.toFixed(0)} ms`,
    ];
    process.stdout.write(`FIGURES ${currentTestName}: ${figures.join(", ")}\n`);
  }
  expect(p99Ms).toBeLessThan(MAX_P99_MS);
  expect(blockedMs).toBeLessThan(MAX_BLOCKED_MS);
  expect(grownMib).toBeLessThan(MAX_GROWTH_MIB);
}
