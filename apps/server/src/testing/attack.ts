import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls, getCACertificates, setDefaultCACertificates } from "node:tls";
import { TestAuthority } from "@sessiond/core/testing";
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

/** Whether attacks go on for long, and figures must be those of a quiet machine: `pnpm soak:attacks`. */
export const IS_SOAK = process.env["SESSIOND_ATTACKS"] === "long";
/** Whether every attack comes over TLS. Otherwise only the tests in tls.test.ts use TLS. */
export const IS_OVER_TLS = process.env["SESSIOND_ATTACKS_TLS"] === "true";
/** How long each attack goes on. */
export const ATTACK_MS = IS_SOAK ? 10_000 : 500;
/** So that CI need not wait for ten seconds where something must be cut. */
export const REQUEST_TIMEOUT_MS = 2_000;
/** The sweep looks once a second, and what it resets has a second to go. */
export const MAX_OPEN_MS = REQUEST_TIMEOUT_MS + 8_000;
/** Another client calls this often. */
const CALL_EVERY_MS = 20;
/** How many connections a flood comes from. */
const ATTACKERS = 8;
/** What a quiet machine keeps. CI's machines share their cores, so there the figures are only printed. */
const MAX_P99_MS = IS_SOAK ? 100 : Number.POSITIVE_INFINITY;
/** For how long the event loop may do nothing else. */
const MAX_BLOCKED_MS = IS_SOAK ? 50 : Number.POSITIVE_INFINITY;
const MAX_GROWTH_MIB = 150;

export type PortName = "gRPC" | "HTTP";
export const PORTS: readonly PortName[] = ["gRPC", "HTTP"];

const LOCAL = { host: "127.0.0.1", noDelay: true };

/** A server in a process of its own, and an access token of an attacker with every permission. */
export interface AttackedServer extends AsyncDisposable {
  readonly process: ListeningServerProcess;
  readonly urls: { readonly grpcUrl: string; readonly httpUrl: string };
  readonly token: string;
  /** Of another caller, who has a session. */
  readonly bystanderToken: string;
  readonly sessionToken: string;
  /** A connection, over TLS if the server has it. */
  open(port: PortName): Socket;
  /** A connection that begins no TLS. */
  openTcp(port: PortName): Socket;
  /** In MiB. */
  memory(): number;
  /** For how long its event loop was blocked at most since this was asked last. */
  longestBlockMs(): Promise<number>;
  /** How many sockets of clients its process has. */
  sockets(): Promise<number>;
}

export async function startAttackedServer({
  env,
  tls = IS_OVER_TLS,
  ...options
}: Pick<ServerProcessOptions, "env" | "maxFiles"> & {
  readonly tls?: boolean;
} = {}): Promise<AttackedServer> {
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
        ...(tls && certificate(opened)),
        ...env,
      },
    }),
  );
  const token = await developmentToken(directory.path, "attacker");
  const bystanderToken = await developmentToken(directory.path, "bystander");
  const schemed = (url: string) => (tls ? url.replace("http:", "https:") : url);
  const urls = { grpcUrl: schemed(process.grpcUrl), httpUrl: schemed(process.httpUrl) };
  const bystander = clientOver(GRPC, { ...urls, accessToken: bystanderToken });
  const { token: sessionToken } = await bystander.createSession({ userId: "bystander" });
  const closing = opened.move();
  const metric = async (name: string) => (await scrape(urls.httpUrl)).sum(name) ?? Number.NaN;
  const numberOf = (port: PortName) =>
    Number(new URL(port === "gRPC" ? urls.grpcUrl : urls.httpUrl).port);
  const attackOver = (socket: Socket) => {
    // Being cut is what an attacker expects.
    socket.on("error", () => {}).resume();
    closing.defer(() => void socket.destroy());
    return socket;
  };
  const openTcp = (port: PortName) => attackOver(connect({ ...LOCAL, port: numberOf(port) }));
  return {
    process,
    urls,
    token,
    bystanderToken,
    sessionToken,
    openTcp,
    open: (port) => {
      if (!tls) return openTcp(port);
      const options = { ...LOCAL, port: numberOf(port), ALPNProtocols: ["h2"] };
      return attackOver(connectTls(options));
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

/** The settings of a server with TLS. From now on, every client of this process trusts it. */
function certificate(opened: AsyncDisposableStack): Record<string, string> {
  const authority = opened.use(new TestAuthority());
  setDefaultCACertificates([...getCACertificates(), readFileSync(authority.ca, "utf8")]);
  const { cert, key } = authority.issue();
  return { SESSIOND_TLS_CERT: cert, SESSIOND_TLS_KEY: key };
}

/** A connection of HTTP/2 that has begun well. */
export function beginHttp2(socket: Socket, settings = NO_SETTINGS): void {
  socket.write(Buffer.concat([PREFACE, settings]));
}

/** Fails unless the server closes the connection in time. */
export async function expectClosed(socket: Socket): Promise<void> {
  const isClosed = new Promise((resolve) => socket.once("close", () => resolve(true)));
  expect(await Promise.race([isClosed, sleep(MAX_OPEN_MS, false)])).toBe(true);
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

/** Sends the same from several connections, and connects again when one is cut. */
export async function floodFrom(
  server: AttackedServer,
  port: PortName,
  bytes: Buffer,
): Promise<void> {
  const untilMs = performance.now() + ATTACK_MS;
  const attack = async () => {
    while (performance.now() < untilMs) {
      const socket = server.open(port);
      beginHttp2(socket);
      socket.write(bytes);
      await Promise.race([new Promise((resolve) => socket.once("close", resolve)), sleep(100)]);
      socket.destroy();
    }
  };
  await Promise.all(Array.from({ length: ATTACKERS }, attack));
}

/**
 * Runs an attack while another client verifies a session on the same port, as every page view does.
 * Fails unless all calls of that client pass, in time, the event loop goes on, and the memory stays
 * within its bound. Times are asserted in the long form only.
 */
export async function withstand(
  server: AttackedServer,
  port: PortName,
  attack: () => Promise<unknown>,
): Promise<void> {
  const protocol = port === "gRPC" ? GRPC : JSON_OVER_HTTP;
  const client = clientOver(protocol, { ...server.urls, accessToken: server.bystanderToken });
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
  const figures = [
    `p99 ${p99Ms.toFixed(0)} ms of ${tookMs.length} calls`,
    `+${grownMib.toFixed(0)} MiB`,
    `blocked ${blockedMs.toFixed(0)} ms`,
  ];
  process.stdout.write(`${expect.getState().currentTestName}: ${figures.join(", ")}\n`);
  expect(p99Ms).toBeLessThan(MAX_P99_MS);
  expect(blockedMs).toBeLessThan(MAX_BLOCKED_MS);
  expect(grownMib).toBeLessThan(MAX_GROWTH_MIB);
}
