// A server to overload, and what is seen of it from beside the flood.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createSessionClient, type SessionClient } from "@sessiond/client";
import { startRedisServer } from "@sessiond/core/testing";
import { moveTo } from "./processes.ts";
import {
  createSession,
  LOAD_CORE,
  type Protocol,
  startSessiond,
  targetOf,
} from "./verify-session.ts";

export const STORES = ["Redis", "SQLite"] as const;
export type Store = (typeof STORES)[number];

const PROBE_INTERVAL_MS = 50;

/** A server, and what a flood of VerifySession sends to it. */
export interface FloodTarget {
  readonly url: string;
  readonly headers: readonly string[];
  readonly body: string;
  readonly httpUrl: string;
  readonly client: SessionClient;
}

/** Starts a server with a session. */
export async function startFloodTarget(
  store: Store,
  protocol: Protocol,
  stack: AsyncDisposableStack,
  flags: readonly string[] = [],
): Promise<FloodTarget> {
  const dir = mkdtempSync(join(tmpdir(), "sessiond-bench-"));
  stack.defer(() => rmSync(dir, { recursive: true }));
  const redis = store === "Redis" ? stack.use(await startRedisServer()) : undefined;
  if (redis !== undefined) moveTo(LOAD_CORE, redis.pid);
  const location = redis?.url ?? `sqlite:${join(dir, "sessions.db")}`;
  const server = await startSessiond(dir, location, { flags });
  stack.defer(() => server.stop());
  const created = await createSession(server, dir);
  const { url, headers, body } = targetOf("flood", protocol, server, created, dir);
  const { accessToken: token } = created;
  const baseUrl = `http://${server.addresses.get("grpc_address")}`;
  const client = stack.use(createSessionClient({ baseUrl, token, timeoutMs: 10_000 }));
  return { url, headers, body, httpUrl: `http://${server.addresses.get("http_address")}`, client };
}

/** What was seen of a server meanwhile. */
export interface Watched {
  readonly mebibytes: number;
  readonly failedProbes: number;
  readonly slowestProbeMs: number;
}

/** Probes a server for so long. The figures of memory are the last ones. */
export async function watchFor(seconds: number, target: FloodTarget): Promise<Watched> {
  const probes: Probe[] = [];
  const endMs = performance.now() + seconds * 1_000;
  while (performance.now() < endMs) {
    await sleep(PROBE_INTERVAL_MS);
    probes.push(await probe(target));
  }
  return {
    mebibytes: (await countsOf(target)).mebibytes,
    failedProbes: probes.filter(({ isGood }) => !isGood).length,
    slowestProbeMs: Math.max(...probes.map(({ ms }) => ms)),
  };
}

interface Probe {
  readonly isGood: boolean;
  readonly ms: number;
}

/** What must go on, whatever else happens: a revocation, and the answer whether the server is ready. */
async function probe({ client, httpUrl }: FloodTarget): Promise<Probe> {
  const startMs = performance.now();
  const [revoked, ready] = await Promise.allSettled([
    client.revokeSession({ sessionId: "0".repeat(64) }),
    fetch(`${httpUrl}/readyz`),
  ]);
  const isReady = ready.status === "fulfilled" && ready.value.ok;
  const isGood = revoked.status === "fulfilled" && isReady;
  return { isGood, ms: performance.now() - startMs };
}

/** What the server has counted so far. */
export async function countsOf({ httpUrl }: FloodTarget) {
  const text = await (await fetch(`${httpUrl}/metrics`)).text();
  const sum = (pattern: RegExp) =>
    text
      .split("\n")
      .filter((line) => pattern.test(line))
      .reduce((total, line) => total + Number(line.slice(line.lastIndexOf(" "))), 0);
  return {
    timeMs: performance.now(),
    served: sum(/^grpc_server_handled_total.*"VerifySession".*"OK"/),
    refused: sum(/^sessiond_shed_total/),
    mebibytes: sum(/^process_resident_memory_bytes/) / 2 ** 20,
  };
}
