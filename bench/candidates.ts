// Everything that `pnpm bench` measures side by side: sessiond, its peers, and the limits of both.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createSessionClient } from "@sessiond/client";
import type { RedisServer } from "@sessiond/core/testing";
import { Redis } from "ioredis";
import { startCaller } from "./caller.ts";
import {
  CALLS_UNDER_WAY,
  type Latency,
  latencyOf,
  load,
  type Pace,
  pace,
  type Target,
  timed,
} from "./load.ts";
import { cpuMicrosOf, startOn } from "./processes.ts";
import { contentOf, createSessions } from "./session-content.ts";
import {
  createSession,
  LOAD_CORE,
  PROTOCOLS,
  responseOf,
  SERVER_CORE,
  startSessiond,
  targetOf,
  WITHOUT_SHEDDING,
} from "./verify-session.ts";

/** The CPU time that one call takes, in microseconds. */
export interface Cost {
  readonly server: number;
  readonly redis: number;
  readonly client: number;
}

/** Something to measure. */
export interface Candidate {
  readonly name: string;
  /** Ours, what somebody would use instead, or what bounds both. */
  readonly kind: "sessiond" | "peer" | "limit";
  /** The memory of Redis that a session takes. */
  readonly bytesPerSession?: number | undefined;
  measure(calls: number): Promise<Cost>;
  /** Undefined if it cannot call at a fixed rate. */
  latency?(pace: Pace): Promise<Latency>;
}

/** What all candidates share. */
interface Bench {
  readonly redis: RedisServer;
  readonly dir: string;
  /** How many sessions each store has. */
  readonly sessions: number;
  readonly stack: AsyncDisposableStack;
}

const FILLERS = 20;
/** A copy of a session of sessiond, under a key that can be an argument of a program. */
const GET_KEY = "bench:session";

/** The name of what every ratio is of. */
export const FLOOR = "bare grpc-js echo";

/** Starts all candidates and gives each its sessions. */
export async function startCandidates(bench: Bench): Promise<Candidate[]> {
  const sqlite = `sqlite:${join(bench.dir, "sessions.db")}`;
  const bytes = await fillSessiond(bench);
  const ours = [
    await startOurs("sessiond, gRPC, Redis", "grpc", bench.redis.url, bytes, bench),
    await startOurs("sessiond, JSON over HTTP/1.1, Redis", "json", bench.redis.url, bytes, bench),
    await startOurs(
      "sessiond, Connect over HTTP/1.1, Redis",
      "connect",
      bench.redis.url,
      bytes,
      bench,
    ),
    await startOurs(
      "sessiond, Connect over HTTP/2, Redis",
      "connectOverHttp2",
      bench.redis.url,
      bytes,
      bench,
    ),
    await startOurs(
      "sessiond, gRPC on the HTTP port, Redis",
      "grpcOverHttpPort",
      bench.redis.url,
      bytes,
      bench,
    ),
    await startOurs("sessiond, gRPC, SQLite", "grpc", sqlite, undefined, bench),
    await startOurs("sessiond, JSON over HTTP/1.1, SQLite", "json", sqlite, undefined, bench),
    await startOurs("sessiond, Connect over HTTP/1.1, SQLite", "connect", sqlite, undefined, bench),
  ];
  return [
    ...ours,
    await startPeer("express-session + connect-redis", "express-session", "/session", bench),
    await startPeer("@fastify/session + connect-redis", "fastify-session", "/session", bench),
    await startPeer("better-auth get-session", "better-auth", "/api/auth/get-session", bench),
    await startEcho(FLOOR, "grpc-echo", bench),
    await startEcho("bare node:http2 echo", "http2-echo", bench),
    await startGet(bench),
    redisBenchmark(bench),
  ];
}

async function startOurs(
  name: string,
  protocol: keyof typeof PROTOCOLS,
  store: string,
  bytesPerSession: number | undefined,
  { dir, redis, stack }: Bench,
): Promise<Candidate> {
  const sessiond = await startSessiond(dir, store, { env: WITHOUT_SHEDDING });
  stack.defer(() => sessiond.stop());
  const created = await createSession(sessiond, dir);
  const target = targetOf(name, PROTOCOLS[protocol], sessiond, created, dir);
  return candidateOf(target, "sessiond", redis, bytesPerSession);
}

async function startEcho(name: string, file: string, { dir, redis, stack }: Bench) {
  const sessiond = await startSessiond(dir, redis.url);
  const created = await createSession(sessiond, dir);
  await sessiond.stop();
  const responseFile = join(dir, "response");
  writeFileSync(responseFile, responseOf(created.response));
  const echo = await startOn(SERVER_CORE, [peerFile(file), responseFile]);
  stack.defer(() => echo.stop());
  const target = targetOf(name, PROTOCOLS.grpc, echo, created, dir);
  return candidateOf(target, "limit", redis);
}

async function startPeer(name: string, file: string, path: string, bench: Bench) {
  const { redis, sessions, stack } = bench;
  const server = await startOn(SERVER_CORE, [peerFile(file), redis.url], {
    NODE_ENV: "production",
  });
  stack.defer(() => server.stop());
  const origin = `http://${server.addresses.get("http_address")}`;
  let cookie = "";
  const create = async (n: number) => {
    const response = await fetch(`${origin}/sessions?n=${n}`, { method: "POST" });
    if (!response.ok) throw new Error(`${name}: ${response.status} ${await response.text()}`);
    cookie = response.headers.get("set-cookie")?.split(";", 1)[0] ?? "";
  };
  const bytes = await growthOf(redis, () => fill(sessions, create));
  const answer = await (await fetch(`${origin}${path}`, { headers: { cookie } })).text();
  if (!answer.includes(contentOf(0).client.userAgent)) {
    throw new Error(`${name}: the session does not verify: ${answer}`);
  }
  const target: Target = {
    ...{ name, server, url: `${origin}${path}`, version: 1 },
    headers: [`cookie: ${cookie}`],
    answerBytes: Buffer.byteLength(answer),
  };
  return candidateOf(target, "peer", redis, bytes / sessions);
}

function candidateOf(
  target: Target,
  kind: Candidate["kind"],
  redis: RedisServer,
  bytesPerSession?: number,
): Candidate {
  return {
    ...{ name: target.name, kind, bytesPerSession },
    measure: async (calls) => {
      const before = cpuMicrosOf(redis.pid);
      const { cpuMicros, clientMicros } = await load(target, LOAD_CORE, calls);
      const redisMicros = (cpuMicrosOf(redis.pid) - before) / calls;
      return { server: cpuMicros, redis: redisMicros, client: clientMicros };
    },
    latency: (at) => pace(target, LOAD_CORE, at),
  };
}

async function startGet({ redis, stack }: Bench): Promise<Candidate> {
  await copySession(redis);
  const caller = await startCaller(SERVER_CORE, [peerFile("get"), redis.url, GET_KEY]);
  stack.defer(() => caller.stop());
  return {
    ...{ name: "ioredis GET", kind: "limit" },
    measure: async (calls) => {
      const before = cpuMicrosOf(redis.pid);
      const { cpuMicros } = await caller.call({ calls, concurrent: CALLS_UNDER_WAY });
      const redisMicros = (cpuMicrosOf(redis.pid) - before) / calls;
      return { server: cpuMicros / calls, redis: redisMicros, client: 0 };
    },
    latency: async ({ perSecond, seconds }) => {
      const order = { calls: perSecond * seconds, concurrent: 10, intervalMs: 1000 / perSecond };
      return latencyOf((await caller.call(order)).latenciesMs);
    },
  };
}

function redisBenchmark({ redis }: Bench): Candidate {
  return {
    ...{ name: "redis-benchmark GET", kind: "limit" },
    measure: async (calls) => {
      const before = cpuMicrosOf(redis.pid);
      const { cpuSeconds } = await timed(SERVER_CORE, [
        ...["redis-benchmark", "-p", `${redis.port}`, "-q", "-n", `${calls}`],
        ...["-c", `${CALLS_UNDER_WAY}`, "GET", GET_KEY],
      ]);
      const redisMicros = (cpuMicrosOf(redis.pid) - before) / calls;
      return { server: 0, redis: redisMicros, client: (cpuSeconds * 1e6) / calls };
    },
  };
}

/** Copies one of sessiond's sessions to `GET_KEY`. */
async function copySession(redis: RedisServer): Promise<void> {
  using client = connect(redis);
  const [, keys] = await client.scanBuffer(0, "MATCH", "sessiond:session:{*", "COUNT", 10_000_000);
  const [session] = keys;
  if (session === undefined) throw new Error("sessiond has no session in Redis");
  await client.copy(session, GET_KEY);
}

/** Gives Redis sessions of sessiond. Returns how many bytes each takes. */
async function fillSessiond({ redis, dir, sessions, stack }: Bench): Promise<number> {
  const server = await startSessiond(dir, redis.url, { env: WITHOUT_SHEDDING });
  stack.defer(() => server.stop());
  const { accessToken } = await createSession(server, dir);
  const baseUrl = `http://${server.addresses.get("grpc_address")}`;
  using client = createSessionClient({ baseUrl, token: accessToken, timeoutMs: 10_000 });
  const bytes = await growthOf(redis, () => createSessions(client, 0, sessions));
  return bytes / sessions;
}

async function fill(count: number, create: (n: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const work = async () => {
    while (next < count) await create(next++);
  };
  await Promise.all(Array.from({ length: FILLERS }, work));
}

/** By how much Redis' memory grows meanwhile, without that of its connections. In bytes. */
async function growthOf(redis: RedisServer, work: () => Promise<unknown>): Promise<number> {
  using client = connect(redis);
  const used = async () => {
    const info = await client.info("memory");
    const bytesOf = (name: string) => Number(new RegExp(`^${name}:(\\d+)`, "m").exec(info)?.[1]);
    return bytesOf("used_memory") - bytesOf("mem_clients_normal");
  };
  const before = await used();
  await work();
  return (await used()) - before;
}

function connect(redis: RedisServer): Redis & Disposable {
  const client = new Redis(redis.url);
  return Object.assign(client, { [Symbol.dispose]: () => client.disconnect() });
}

function peerFile(name: string): string {
  return new URL(`peers/${name}.ts`, import.meta.url).pathname;
}
