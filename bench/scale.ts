// Measures how the number of sessions in Redis changes the memory for each, and the time to verify
// one, to list a page and to count all.
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { createSessionClient, type SessionClient } from "@sessiond/client";
import { Keyring, Sessions } from "@sessiond/core";
import { connectRedis, RedisSessionStore } from "@sessiond/core/redis";
import { type RedisServer, startRedisServer } from "@sessiond/core/testing";
import { RedisStore } from "connect-redis";
import type { SessionData } from "express-session";
import { createClient } from "redis";
import { median, writeSection } from "./results.ts";
import { contentOf } from "./session-content.ts";
import { atLeast, mintAccessToken, startSessiond } from "./verify-session.ts";

const KEYRING = `k:${"A".repeat(43)}=`;

const AT_A_TIME = 200;
const SESSIONS_PER_USER = 5;
const LIFETIME_MS = 24 * 3_600_000;
/** How often each call is made in a round. */
const CALLS = { verify: 200, list: 20, count: 40 } as const;
type Call = keyof typeof CALLS;
const WARM_UP_ROUNDS = 10;

const { values } = parseArgs({
  options: {
    few: { type: "string", default: "1000" },
    many: { type: "string", default: "1000000" },
    rounds: { type: "string", default: "50" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(`Usage: pnpm bench:scale [--few N] [--many N] [--rounds N]

Fills one Redis with N sessions (default 1000) and another with N (default
1000000), calls each in turn, N rounds (default 50), and writes a section of
bench/RESULTS.md. Needs redis-server and, for a million sessions, 3 GB of memory.`);
} else {
  await main(
    atLeast(1, "few", values.few),
    atLeast(1, "many", values.many),
    atLeast(1, "rounds", values.rounds),
  );
}

/** The user of session `n` of `count`. All users have the same number of sessions, in turns. */
function userOf(n: number, count: number): string {
  return `user-${n % Math.ceil(count / SESSIONS_PER_USER)}`;
}

/** A server on a Redis filled with sessions, and ways to call it. */
interface Filled {
  readonly bytesPerSession: number;
  readonly calls: Readonly<Record<Call, () => Promise<unknown>>>;
}

async function main(few: number, many: number, rounds: number): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const startRedis = async () => stack.use(await startRedisServer());
  const peerBytes = await fillConnectRedis(await startRedis(), Math.min(many, 100_000));
  const small = await fillSessiond(await startRedis(), few, stack);
  const large = await fillSessiond(await startRedis(), many, stack);

  const micros = { verify: [[], []], list: [[], []], count: [[], []] } as Record<
    Call,
    [number[], number[]]
  >;
  for (let round = 1 - WARM_UP_ROUNDS; round <= rounds; round++) {
    for (const call of Object.keys(CALLS) as Call[]) {
      for (const [i, { calls }] of [small, large].entries()) {
        const time = await timeOf(calls[call], CALLS[call]);
        if (round > 0) micros[call][i]?.push(time);
      }
    }
  }
  const titles = {
    verify: "VerifySession",
    list: "ListSessions, a page of 100 of all users",
    count: "CountSessions of all users",
  };
  const rows = (Object.keys(CALLS) as Call[]).map((call) => {
    const [atFew, atMany] = micros[call].map(median) as [number, number];
    return `| ${(atMany / atFew).toFixed(2)} | ${titles[call]} | ${Math.round(atFew)} | ${Math.round(atMany)} |`;
  });
  writeSection(
    "The number of sessions in Redis",
    `Written by \`pnpm bench:scale --few ${few} --many ${many} --rounds ${rounds}\` on Node ${process.versions.node}, ${availableParallelism()} cores.

| ratio | call | µs at ${few} sessions | µs at ${many} sessions |
| ----: | ---- | --------------------: | ---------------------: |
${rows.join("\n")}

- gRPC calls by the SDK, one after the other, to a server on each Redis; both in turn, medians of
  the rounds.

| of the peer | bytes of Redis memory a session | |
| ----------: | ------------------------------: | - |
| ${(large.bytesPerSession / peerBytes).toFixed(1)} | ${Math.round(large.bytesPerSession)} | sessiond: sealed, three indexes, events |
| 1.0 | ${Math.round(peerBytes)} | connect-redis: the same content as plain JSON, no index |

- \`used_memory\` of Redis with the sessions minus without, by their number.
`,
  );
}

async function fillSessiond(
  redis: RedisServer,
  count: number,
  stack: AsyncDisposableStack,
): Promise<Filled> {
  const tokens: string[] = [];
  const bytes = await growthOf(redis, async () => {
    await createSessions(redis, count, (token) => tokens.length < 1_000 && tokens.push(token));
  });
  const client = await startServer(redis, stack);
  let next = 0;
  return {
    bytesPerSession: bytes / count,
    calls: {
      verify: () => client.verifySession(tokens[next++ % tokens.length] ?? "", { noTouch: true }),
      list: () => client.listSessions({ pageSize: 100 }),
      count: () => client.countSessions(),
    },
  };
}

/** Creates sessions as a server would, without RPCs. */
async function createSessions(
  server: RedisServer,
  count: number,
  onToken: (token: string) => void,
): Promise<void> {
  const address = { host: "127.0.0.1", port: server.port };
  const redis = connectRedis({ kind: "redis", address, db: 0, tls: false }, () => {});
  await once(redis, "ready");
  const store = new RedisSessionStore({ redis, keyPrefix: "sessiond:" });
  const sessions = new Sessions({ store, keyring: Keyring.parse(KEYRING) });
  for (let from = 0; from < count; from += AT_A_TIME) {
    const batch = Array.from({ length: Math.min(AT_A_TIME, count - from) }, (_, i) => {
      const content = contentOf(from + i);
      return sessions.create({
        userId: userOf(from + i, count),
        ...content,
        idleTimeoutMs: LIFETIME_MS,
      });
    });
    for (const { token } of await Promise.all(batch)) onToken(token);
    if (from % 100_000 === 0) console.log(`${from} of ${count} sessions`);
  }
  await store.close();
}

/** A sessiond server on a Redis, and a client to call it. */
async function startServer(
  redis: RedisServer,
  stack: AsyncDisposableStack,
): Promise<SessionClient> {
  const dir = mkdtempSync(join(tmpdir(), "sessiond-bench-"));
  stack.defer(() => rmSync(dir, { recursive: true }));
  const server = await startSessiond(dir, redis.url, {
    core: "0-1",
    flags: ["--keyring", KEYRING],
  });
  stack.defer(() => server.stop());
  const token = mintAccessToken(dir, "sessions:read");
  const baseUrl = `http://${server.addresses.get("grpc_address")}`;
  return stack.use(createSessionClient({ baseUrl, token }));
}

async function connectPeer(server: RedisServer) {
  const client = createClient({ url: server.url });
  client.on("error", (error) => console.error(error));
  return client.connect();
}

async function fillConnectRedis(server: RedisServer, count: number): Promise<number> {
  const client = await connectPeer(server);
  const store = new RedisStore({ client });
  const bytes = await growthOf(server, async () => {
    for (let from = 0; from < count; from += AT_A_TIME) {
      const batch = Array.from({ length: AT_A_TIME }, (_, i) => {
        const n = from + i;
        const cookie = { originalMaxAge: LIFETIME_MS, maxAge: LIFETIME_MS, httpOnly: true };
        const session = { cookie, userId: userOf(n, count), ...contentOf(n) };
        // The length of express-session's ids.
        const id = `${n}`.padStart(32, "x");
        return store.set(id, session as unknown as SessionData);
      });
      await Promise.all(batch);
    }
  });
  client.destroy();
  return bytes / count;
}

/** The growth of a Redis server's memory by `fill`, in bytes. */
async function growthOf(server: RedisServer, fill: () => Promise<void>): Promise<number> {
  const before = await usedMemory(server);
  await fill();
  return (await usedMemory(server)) - before;
}

async function usedMemory(server: RedisServer): Promise<number> {
  const client = await connectPeer(server);
  const info = await client.info("memory");
  client.destroy();
  return Number(/^used_memory:(\d+)/m.exec(info)?.[1]);
}

/** The mean time of a call in µs. */
async function timeOf(call: () => Promise<unknown>, times: number): Promise<number> {
  const startMs = performance.now();
  for (let i = 0; i < times; i++) await call();
  return ((performance.now() - startMs) * 1000) / times;
}
