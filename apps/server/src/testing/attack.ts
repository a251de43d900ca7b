import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { END_HEADERS, frame, headerBlock, NO_SETTINGS, PREFACE } from "./http2-frames.js";
import { clientOver, GRPC, JSON_OVER_HTTP } from "./protocols.js";
import {
  developmentToken,
  type ListeningServerProcess,
  type ServerProcessOptions,
  spawnServer,
} from "./server-process.js";
import { temporaryDirectory } from "./temporary-directory.js";

/** How long each attack goes on: a moment in CI, or as long as you like. */
export const ATTACK_MS = Number(process.env["SESSIOND_TEST_ATTACK_MS"] ?? 1_500);
/** So that CI need not wait for ten seconds where something must be cut. */
export const REQUEST_TIMEOUT_MS = 2_000;
/** Another client calls this often. */
const CALL_EVERY_MS = 20;
/** Generous: machines of CI are slow. On a quiet one, 100 ms are enough. */
const MAX_P99_MS = Number(process.env["SESSIOND_TEST_ATTACK_P99_MS"] ?? 3_000);
const MAX_GROWTH_MIB = 150;

export type PortName = "gRPC" | "HTTP";
export const PORTS: readonly PortName[] = ["gRPC", "HTTP"];

/** Opens a socket to an address. With TLS, a test would open another kind. */
export type OpenSocket = (port: number) => Socket;

const openTcp: OpenSocket = (port) => connect(port, "127.0.0.1").setNoDelay();

/** A server in a process of its own, and an access token with every permission. */
export interface AttackedServer extends AsyncDisposable {
  readonly process: ListeningServerProcess;
  readonly token: string;
  open(port: PortName): Socket;
  /** In MiB. */
  memory(): number;
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
        SESSIOND_REQUEST_TIMEOUT: `${REQUEST_TIMEOUT_MS / 1000}s`,
        ...env,
      },
    }),
  );
  const token = await developmentToken(directory.path);
  const closing = opened.move();
  const urls = { gRPC: process.grpcUrl, HTTP: process.httpUrl };
  return {
    process,
    token,
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
    sockets: async () => {
      const metrics = await (await fetch(`${process.httpUrl}/metrics`)).text();
      return Number(/^sessiond_connections (\d+)/m.exec(metrics)?.[1]);
    },
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
 * Runs an attack while another client calls on the same port. Fails unless all calls of that client
 * pass, in time, and the memory stays within its bound and returns.
 */
export async function withstand(
  server: AttackedServer,
  port: PortName,
  attack: () => Promise<unknown>,
): Promise<void> {
  const { grpcUrl, httpUrl } = server.process;
  const protocol = port === "gRPC" ? GRPC : JSON_OVER_HTTP;
  const client = clientOver(protocol, { grpcUrl, httpUrl, accessToken: server.token });
  await client.countSessions({});
  const beforeMib = server.memory();
  let mostMib = beforeMib;
  let isOver = false;
  const tookMs: number[] = [];
  const calling = (async () => {
    while (!isOver) {
      const startMs = performance.now();
      await client.countSessions({});
      tookMs.push(performance.now() - startMs);
      mostMib = Math.max(mostMib, server.memory());
      await sleep(CALL_EVERY_MS);
    }
  })();
  await Promise.all([attack().finally(() => (isOver = true)), calling]);
  tookMs.sort((a, b) => a - b);
  const p99Ms = tookMs[Math.ceil(tookMs.length * 0.99) - 1] ?? Number.NaN;
  const grownMib = mostMib - beforeMib;
  if (process.env["SESSIOND_TEST_ATTACK_FIGURES"]) {
    const { currentTestName } = expect.getState();
    const figures = `p99 ${p99Ms.toFixed(0)} ms, +${grownMib.toFixed(0)} MiB, ${tookMs.length} calls`;
    process.stdout.write(`FIGURES ${currentTestName}: ${figures}\n`);
  }
  expect(p99Ms).toBeLessThan(MAX_P99_MS);
  expect(grownMib).toBeLessThan(MAX_GROWTH_MIB);
}
