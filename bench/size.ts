// Measures what a session takes in each store, by the size of its data.
import { once } from "node:events";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Keyring, type SessionStore, Sessions } from "@sessiond/core";
import { connectRedis, RedisSessionStore } from "@sessiond/core/redis";
import { openSqliteStores } from "@sessiond/core/sqlite";
import { startRedisServer } from "@sessiond/core/testing";
import { writeSection } from "./results.ts";
import { contentOf } from "./session-content.ts";
import { atLeast } from "./verify-session.ts";

/** Few, so that no call takes longer than the store may. */
const AT_A_TIME = 20;
const SESSIONS_PER_USER = 5;
/** JSON has a name, and quotes, around this text. */
const DATA_BYTES = [100, 1_000, 10_000];

const { values } = parseArgs({
  options: {
    sessions: { type: "string", default: "20000" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(`Usage: pnpm bench:size [--sessions N]

Creates N sessions (default 20000) in a Redis and in an SQLite file, with data of several sizes, and
writes a section of bench/RESULTS.md. Needs redis-server.`);
} else {
  await main(atLeast(1, "sessions", values.sessions));
}

async function main(count: number): Promise<void> {
  const rows: string[] = [];
  for (const bytes of DATA_BYTES) {
    const redis = Math.round((await sizeInRedis(count, bytes)) / count);
    const sqlite = Math.round((await sizeInSqlite(count, bytes)) / count);
    rows.push(`| ${bytes} | ${redis} | ${sqlite} |`);
    console.log(rows.at(-1));
  }
  writeSection(
    "The size of a session",
    `Written by \`pnpm bench:size --sessions ${count}\` on Node ${process.versions.node}.

| bytes of data | bytes in Redis | bytes in SQLite |
| ------------: | -------------: | --------------: |
${rows.join("\n")}

- Each session has a display name, two roles, a client and one text in \`data\`. ${SESSIONS_PER_USER} sessions a user.
- In Redis: the growth of \`used_memory\`, by the number of sessions. In SQLite: the file, after its log
  was moved into it. Both with the events of the creations, which are gone after the retention.
`,
  );
}

async function fill(store: SessionStore, count: number, dataBytes: number): Promise<void> {
  const sessions = new Sessions({ store, keyring: Keyring.parse(Keyring.generateKey()) });
  const users = Math.ceil(count / SESSIONS_PER_USER);
  const create = (n: number) =>
    sessions.create({
      userId: `user-${n % users}`,
      ...contentOf(n),
      data: { text: "x".repeat(dataBytes) },
    });
  for (let from = 0; from < count; from += AT_A_TIME) {
    const batch = Array.from({ length: Math.min(AT_A_TIME, count - from) }, (_, i) => from + i);
    await Promise.all(batch.map(create));
  }
}

async function sizeInRedis(count: number, dataBytes: number): Promise<number> {
  await using server = await startRedisServer();
  const redis = connectRedis(
    { kind: "redis", address: { host: "127.0.0.1", port: server.port }, db: 0, tls: false },
    () => {},
  );
  await once(redis, "ready");
  const usedMemory = async () =>
    Number(/^used_memory:(\d+)/m.exec(await redis.info("memory"))?.[1]);
  const before = await usedMemory();
  const store = new RedisSessionStore({ redis, keyPrefix: "sessiond:" });
  await fill(store, count, dataBytes);
  const grown = (await usedMemory()) - before;
  await store.close();
  return grown;
}

async function sizeInSqlite(count: number, dataBytes: number): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), "sessiond-size-"));
  try {
    const path = join(directory, "sessiond.db");
    const stores = await openSqliteStores({ path });
    await fill(stores.sessions, count, dataBytes);
    await stores.close();
    return statSync(path).size;
  } finally {
    rmSync(directory, { recursive: true });
  }
}
