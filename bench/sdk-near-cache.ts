// Measures the SDK's near cache: what a hit costs beside the hash of its token, when a revocation by
// another process is seen, and what the sessions in memory take.
import { type ChildProcess, fork } from "node:child_process";
import { hash } from "node:crypto";
import { once } from "node:events";
import { cpus } from "node:os";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { createSessionClient, type SessionClient } from "@sessiond/client";
import { median, writeSection } from "./results.ts";
import type { Revocation, Revoked } from "./sdk-revoker.ts";
import { createSessions } from "./session-content.ts";
import { atLeast, startForSdk } from "./verify-session.ts";

const REVOKER = new URL("sdk-revoker.ts", import.meta.url);
/** Sessions that are verified in turn, and hits of a round: between them the stream is read. */
const HOT_SESSIONS = 1_000;
const HITS = 20_000;
const HITS_A_TURN = 1_000;
const ROUNDS = 20;
const WARM_UP_ROUNDS = 5;
const VERIFIED_TOGETHER = 100;

const { values } = parseArgs({
  options: {
    sessions: { type: "string", default: "100000" },
    trials: { type: "string", default: "1000" },
    dry: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(`Usage: pnpm bench:near-cache [--sessions N] [--trials N] [--dry]

Measures the hits of a near cache, N revocations by another process (default 1000), and the
memory of N sessions (default 100000), and writes a section of bench/RESULTS.md; with --dry
it only prints it. Needs the same tools as pnpm bench.`);
} else {
  await main(atLeast(1_000, "sessions", values.sessions), atLeast(20, "trials", values.trials));
}

async function main(sessions: number, trials: number): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const { accessToken: token, baseUrl } = await startForSdk(stack);
  const far = stack.use(createSessionClient({ baseUrl, token, timeoutMs: 60_000 }));
  const near = stack.use(
    createSessionClient({
      ...{ baseUrl, token, timeoutMs: 60_000 },
      nearCache: { maxSessions: sessions },
    }),
  );
  const revoker = fork(REVOKER, [baseUrl, token]);
  stack.defer(() => void revoker.kill());
  await once(revoker, "message");

  const hot = await createSessions(far, 0, HOT_SESSIONS);
  const hits = await measureHits(near, hot);
  console.log("hits are measured");
  const seenMs = await measureRevocations(near, far, revoker, trials);
  console.log("revocations are measured");
  const memory = await measureMemory(near, far, sessions);
  const text = report(
    hits,
    seenMs,
    memory,
    `pnpm bench:near-cache --sessions ${sessions} --trials ${trials}`,
  );
  if (values.dry) console.log(text);
  else writeSection("The near cache", text);
}

interface Hits {
  readonly hashNs: number;
  readonly hitNs: number;
}

async function measureHits(near: SessionClient, tokens: readonly string[]): Promise<Hits[]> {
  const rounds: Hits[] = [];
  let characters = 0;
  for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
    // Whatever was not kept, or was dropped by an event, is asked for here.
    for (const token of tokens) await near.verifySession(token);
    const { misses } = near.nearCache.stats();
    const hashNs = await cpuNsOf((token) => {
      characters += hash("sha256", token).length;
    }, tokens);
    const hitNs = await cpuNsOf((token) => near.verifySession(token), tokens);
    if (near.nearCache.stats().misses > misses) continue;
    if (round >= 0) rounds.push({ hashNs, hitNs });
  }
  if (characters === 0) throw new Error("nothing was hashed");
  return rounds;
}

/** The CPU time of one call, which is made many times, in nanoseconds. */
async function cpuNsOf(
  call: (token: string) => unknown,
  tokens: readonly string[],
): Promise<number> {
  const start = process.cpuUsage();
  for (let i = 0; i < HITS; i++) {
    await call(tokens[i % tokens.length] as string);
    if (i % HITS_A_TURN === 0) await nextTurn();
  }
  const { user, system } = process.cpuUsage(start);
  return ((user + system) * 1_000) / HITS;
}

/** From the acknowledgement in the other process until this one refuses the token, in ms. */
async function measureRevocations(
  near: SessionClient,
  far: SessionClient,
  revoker: ChildProcess,
  trials: number,
): Promise<number[]> {
  const seenMs: number[] = [];
  for (let trial = 0; trial < trials; trial++) {
    const [token] = (await createSessions(far, trial, trial + 1)) as [string];
    await remember(near, token);
    const revoked = once(revoker, "message");
    revoker.send({ token } satisfies Revocation);
    while ((await near.verifySession(token)) !== undefined) await nextTurn();
    const refusedMs = Date.now();
    const [{ acknowledgedMs }] = (await revoked) as [Revoked];
    seenMs.push(Math.max(0, refusedMs - acknowledgedMs));
  }
  return seenMs.sort((a, b) => a - b);
}

async function remember(near: SessionClient, token: string): Promise<void> {
  for (;;) {
    const { hits } = near.nearCache.stats();
    await near.verifySession(token);
    if (near.nearCache.stats().hits > hits) return;
    await sleep(1);
  }
}

interface Memory {
  readonly entries: number;
  readonly heapBytes: number;
  readonly countedBytes: number;
}

async function measureMemory(
  near: SessionClient,
  far: SessionClient,
  sessions: number,
): Promise<Memory> {
  const before = { heap: heapBytes(), ...near.nearCache.stats() };
  for (let start = HOT_SESSIONS; start < sessions; start += 10_000) {
    const tokens = await createSessions(far, start, Math.min(start + 10_000, sessions));
    for (let i = 0; i < tokens.length; i += VERIFIED_TOGETHER) {
      await Promise.all(
        tokens.slice(i, i + VERIFIED_TOGETHER).map((token) => near.verifySession(token)),
      );
    }
  }
  await sleep(100);
  const { entries, bytes } = near.nearCache.stats();
  return {
    entries: entries - before.entries,
    heapBytes: heapBytes() - before.heap,
    countedBytes: bytes - before.bytes,
  };
}

function heapBytes(): number {
  for (let i = 0; i < 3; i++) globalThis.gc?.();
  return process.memoryUsage().heapUsed;
}

function report(
  hits: readonly Hits[],
  seenMs: readonly number[],
  memory: Memory,
  command: string,
): string {
  const at = (share: number) => seenMs[Math.ceil(share * seenMs.length) - 1];
  const ns = (value: (round: Hits) => number) => median(hits.map(value)).toFixed(0);
  const megabytes = (bytes: number) => (bytes / 1e6).toFixed(0);
  return `Written by \`${command}\` on Node ${process.versions.node}, ${cpus().length} cores.

- A hit takes ${median(hits.map(({ hashNs, hitNs }) => hitNs / hashNs)).toFixed(2)} of the CPU time of
  \`crypto.hash("sha256", token)\`: ${ns(({ hitNs }) => hitNs)} ns and ${ns(({ hashNs }) => hashNs)} ns, medians of ${hits.length} rounds of ${HITS} hits
  of ${HOT_SESSIONS} sessions. The loop and its \`await\` count for both.
- A revocation by another process was refused here ${at(0.5)} ms after it was acknowledged there at the
  median, ${at(0.99)} ms at the 99th percentile and ${seenMs.at(-1)} ms at most, of ${seenMs.length}.
- ${memory.entries} sessions take ${megabytes(memory.heapBytes)} MB of the heap; \`stats().bytes\` says ${megabytes(memory.countedBytes)} MB.
- The server on Redis has core 0; the client and Redis share core 1.
`;
}
