import { once } from "node:events";
import { chmod, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { EVICTION_REASON, type StoredSession } from "../sessions/session-store.js";
import {
  ACTIVE,
  addSession,
  addSessions,
  assertSame,
  EVERYTHING,
  keyOf,
  listAll,
  NO_LIMIT,
  newSession,
} from "../testing/contract/sessions/fixtures.js";
import { spawnTypeScript } from "../testing/processes/spawn-typescript.js";
import { MIGRATIONS, migrate } from "./migrations.js";
import { SqliteSessionStore } from "./sqlite-session-store.js";

const UNAVAILABLE = { reason: { reason: "STORE_UNAVAILABLE" } };

let dir: string;
let path: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "sessiond-"));
  path = join(dir, "sessions.db");
});
afterEach(() => rm(dir, { recursive: true }));

/** Opens the file; it is closed at the latest after the test. */
async function open(): Promise<SqliteSessionStore> {
  const store = await SqliteSessionStore.open({ path });
  onTestFinished(() => store.close());
  return store;
}

/** Opens the file and the connection that the store does its work with. */
async function openWithConnection() {
  const exec = vi.spyOn(DatabaseSync.prototype, "exec");
  const store = await open();
  const [connection] = exec.mock.contexts as [DatabaseSync];
  exec.mockRestore();
  const pragmaOf = (name: string) => Number(connection.prepare(`PRAGMA ${name}`).get()?.[name]);
  /** Leaves room for so many pages more. */
  const leaveRoom = (pages: number) =>
    connection.exec(`PRAGMA max_page_count = ${pragmaOf("page_count") + pages}`);
  return { store, connection, leaveRoom };
}

/** Runs SQL in a file, as another program would. */
function inFile(sql: string): void {
  using db = new DatabaseSync(path);
  db.exec(sql);
}

function pragma(name: string): unknown {
  using db = new DatabaseSync(path);
  return db.prepare(`PRAGMA ${name}`).get()?.[name];
}

/** Holds the write lock of the file, as another process would, until it is disposed of. */
function holdLock(): DatabaseSync {
  const other = new DatabaseSync(path);
  other.exec("BEGIN IMMEDIATE");
  return other;
}

function spawnChild(name: string, ...args: readonly string[]) {
  return spawnTypeScript(new URL(name, import.meta.url), [path, ...args]);
}

/** Runs a file of this directory to its end and answers what it printed. */
async function run(name: string, ...args: readonly string[]): Promise<string> {
  const child = spawnChild(name, ...args);
  let output = "";
  child.stdout?.on("data", (chunk) => {
    output += chunk;
  });
  await once(child, "close");
  return output;
}

test("the files are made for the owner alone, and closing leaves the file and the reserve", async () => {
  const modeOf = async (file: string) => ((await stat(file)).mode & 0o777).toString(8);
  const store = await open();
  await addSession(store);
  const left = ["sessions.db", "sessions.db-reserve"];
  const files = await readdir(dir);
  expect(files).toEqual([...left, "sessions.db-shm", "sessions.db-wal"]);
  for (const file of files) expect(await modeOf(join(dir, file))).toBe("600");
  await store.close();
  expect(await readdir(dir)).toEqual(left);

  await chmod(path, 0o640);
  await (await open()).close();
  expect(await modeOf(path), "as its owner made it").toBe("640");
});

test("a path is a path, even where SQLite would read a URI", async () => {
  path = join(dir, "file:sessions.db?mode=memory");
  const store = await open();
  const session = await addSession(store);
  await store.close();
  const name = "file:sessions.db?mode=memory";
  expect(await readdir(dir)).toEqual([name, `${name}-reserve`]);
  expect(await (await open()).get(keyOf(session))).toBeDefined();
});

test("sessions and tombstones survive a restart", async () => {
  const first = await open();
  const kept = await addSession(first, { id: "jti-1" });
  const revoked = await addSession(first);
  await first.revoke(keyOf(revoked), "logout");
  await first.close();

  const second = await open();
  assertSame(await second.get(keyOf(kept)), kept);
  expect(await second.touch(keyOf(kept), kept.tokenHash)).toBeDefined();
  expect(await second.get(keyOf(revoked))).toBeUndefined();
  const listed = await listAll(second, { ...EVERYTHING, showExpired: false });
  expect(listed.find(({ id }) => id === revoked.id)?.revokeReason).toBe("logout");
});

test("commits are synced to the disk, through a WAL", async () => {
  const { connection } = await openWithConnection();
  const FULL = 2;
  expect(connection.prepare("PRAGMA journal_mode").get()).toEqual({ journal_mode: "wal" });
  expect(connection.prepare("PRAGMA synchronous").get()).toEqual({ synchronous: FULL });
});

test("a full disk refuses new sessions, keeps the others, and is got over", async () => {
  const { store, leaveRoom } = await openWithConnection();
  const session = await addSession(store);
  leaveRoom(20);
  const record = new Uint8Array(4_000);
  const outcomes = await Promise.allSettled(
    Array.from({ length: 40 }, () => addSession(store, { record })),
  );
  const refused = outcomes.filter((outcome) => outcome.status === "rejected");
  expect(refused.length).toBeGreaterThan(10);
  expect(refused.length).toBeLessThan(40);
  for (const { reason } of refused) expect(reason).toMatchObject({ reason: "OVERLOADED" });
  expect(await store.count()).toBe(41 - refused.length);
  expect(await store.get(keyOf(session))).toBeDefined();
  expect(await store.revoke(keyOf(session), "logout")).toBe(true);
  const [active] = (await listAll(store, ACTIVE)) as [StoredSession];
  const tooLarge = store.replaceRecord(keyOf(active), 1, new Uint8Array(200_000));
  await expect(tooLarge).rejects.toMatchObject({ reason: "OVERLOADED" });

  leaveRoom(2_000);
  await addSessions(store, 40, { record });
  expect(await store.count()).toBe(80 - refused.length);
  await store.close();
  expect(pragma("integrity_check")).toBe("ok");
});

test("a request that a full disk refuses has left no trace, and may be made again", async () => {
  const { store, leaveRoom } = await openWithConnection();
  leaveRoom(0);
  // The session has room; what to answer a repetition with has not.
  const request = { key: "caller:1", record: new Uint8Array(100_000), keptForMs: 600_000 };
  const session = newSession();
  const refused = store.createOnce(request, session, NO_LIMIT);
  await expect(refused).rejects.toMatchObject({ reason: "OVERLOADED" });
  expect(await store.count()).toBe(0);
  const start = await store.events.end();

  leaveRoom(2_000);
  expect(await store.createOnce(request, session, NO_LIMIT)).not.toHaveProperty("repeated");
  expect(await store.events.read(start, 10)).toMatchObject({ events: [{ type: "created" }] });
});

test("the clock is the system's and ended sessions stay for ten minutes, unless said otherwise", async () => {
  const store = await open();
  const beforeMs = Date.now();
  const session = await addSession(store);
  expect(session.createTimeMs).toBeGreaterThanOrEqual(beforeMs);
  expect(session.createTimeMs).toBeLessThanOrEqual(Date.now());
  await store.revoke(keyOf(session), "");
  for (const [minutes, reclaimed] of [
    [9.9, 0],
    [10, 1],
  ] as const) {
    inFile(`UPDATE sessions SET end_time_ms = ${Date.now() - minutes * 60_000}`);
    expect((await store.sweep(10)).reclaimed).toBe(reclaimed);
  }
});

describe("migrations", () => {
  const added = "ALTER TABLE sessions ADD COLUMN shoe_size INTEGER";

  test("bring an older file to the newest version and keep its sessions", async () => {
    const store = await open();
    const session = await addSession(store);
    await store.close();
    using db = new DatabaseSync(path);
    for (let times = 0; times < 2; times++) migrate(db, [...MIGRATIONS, added]);
    const row = db.prepare("SELECT id, shoe_size FROM sessions").get();
    expect({ ...row }).toEqual({ id: session.id, shoe_size: null });
    expect(pragma("user_version")).toBe(MIGRATIONS.length + 1);
  });

  test("that fail leave the file as it was", async () => {
    await (await open()).close();
    using db = new DatabaseSync(path);
    expect(() => migrate(db, [...MIGRATIONS, added, "CREATE TABLE sessions (x)"])).toThrow();
    expect(pragma("user_version")).toBe(MIGRATIONS.length);
    expect(() => db.prepare("SELECT shoe_size FROM sessions")).toThrow("no such column");
  });
});

test("servers that open a new file at the same moment share it, and none exceeds the limit", async () => {
  const servers = Array.from({ length: 4 }, () => run("open-file.test.child.ts", "100"));
  const outputs = await Promise.all(servers);
  const evicted = outputs.flatMap((output) => output.match(/evicted \S+/g) ?? []);
  const store = await open();
  expect(await store.count("user")).toBe(10);
  expect(evicted).toHaveLength(390);
  expect(new Set(evicted).size).toBe(390);
  expect(pragma("user_version")).toBe(MIGRATIONS.length);
});

describe("a server that is killed", () => {
  /** Runs the writer until it has said that much, kills it, and answers all that it said. */
  async function killAfter(lines: number): Promise<string[][]> {
    const child = spawnChild("crash-writer.test.child.ts");
    let output = "";
    child.stdout?.on("data", (chunk) => {
      output += chunk;
      if (output.split("\n").length > lines) child.kill("SIGKILL");
    });
    const [, signal] = await once(child, "close");
    expect(signal).toBe("SIGKILL");
    // The last line was cut off in the middle.
    const whole = output.split("\n").slice(0, -1);
    return whole.map((line) => line.split(" "));
  }

  function expectWhole(sessions: readonly StoredSession[]): void {
    using db = new DatabaseSync(path);
    const query = "SELECT version FROM session_events WHERE session_id = ? ORDER BY sequence";
    const events = db.prepare(query);
    for (const { id, version, tokenHash, revokeTimeMs, revokeReason } of sessions) {
      const isRevoked = revokeTimeMs !== undefined;
      const told = events.all(id).map((row) => row["version"]);
      const facts = { version, hashBytes: tokenHash.length, hasReason: revokeReason !== undefined };
      expect({ ...facts, told }).toEqual(
        isRevoked
          ? { version: 2, hashBytes: 0, hasReason: true, told: [1, 2] }
          : { version: 1, hashBytes: 32, hasReason: false, told: [1] },
      );
    }
    const count = db.prepare("SELECT count(*) AS count FROM session_events").get()?.["count"];
    expect(count).toBe(sessions.reduce((sum, { version }) => sum + version, 0));
  }

  test("has kept every acknowledged change, and nothing by halves", async () => {
    const said: string[][] = [];
    for (const lines of [1, 150, 300]) {
      said.push(...(await killAfter(lines)));
      const idsAfter = (word: string) =>
        said.filter(([first]) => first === word).map(([, id = ""]) => id);
      expect(pragma("integrity_check")).toBe("ok");

      const store = await open();
      const sessions = await listAll(store, EVERYTHING);
      const byId = new Map(sessions.map((session) => [session.id, session]));
      expectWhole(sessions);
      for (const id of idsAfter("created")) expect(byId.has(id), `${id} was created`).toBe(true);
      for (const id of idsAfter("revoked")) {
        expect(byId.get(id)?.revokeTimeMs, `${id} was revoked`).toBeDefined();
      }
      const maybeRevoked = new Set([...idsAfter("revoked"), ...idsAfter("revoking")]);
      for (const { id, revokeReason = EVICTION_REASON } of sessions) {
        if (!maybeRevoked.has(id)) expect(revokeReason).toBe(EVICTION_REASON);
      }
      expect(await store.count()).toBe((await listAll(store, ACTIVE)).length);
      for (const user of ["ann", "bob", "carol"]) {
        expect(await store.count(user)).toBeLessThanOrEqual(3);
      }
      await store.close();
    }
  });
});

describe("while another process holds the write lock", () => {
  test("reads go on, hardly held up, and writes wait for it", async () => {
    const store = await open();
    const session = await addSession(store);
    using other = holdLock();
    const write = store.touch(keyOf(session));
    for (let n = 0; n < 20; n++) {
      // By the clock of the caller: that the store stops the event loop counts.
      const startMs = performance.now();
      await sleep(10);
      expect(await store.get(keyOf(session))).toBeDefined();
      expect(performance.now() - startMs).toBeLessThan(300);
    }
    other.exec("ROLLBACK");
    expect(await write).toBeDefined();
  });

  test("writes are given up together within two seconds, and are not made later", async () => {
    const store = await open();
    const session = await addSession(store);
    using other = holdLock();
    const startMs = performance.now();
    const writes = await Promise.allSettled([
      store.revoke(keyOf(session), ""),
      addSession(store),
      store.touch(keyOf(session)),
    ]);
    const elapsedMs = performance.now() - startMs;
    expect(elapsedMs).toBeGreaterThan(1_400);
    expect(elapsedMs).toBeLessThan(2_000);
    for (const write of writes) expect(write).toMatchObject(UNAVAILABLE);
    other.exec("ROLLBACK");
    expect(await store.count()).toBe(1);
    expect(await store.revoke(keyOf(session), "")).toBe(true);
  });

  test("a write does not also wait for as long as those before it", async () => {
    const store = await open();
    const session = await addSession(store);
    using _other = holdLock();
    const waits = await Promise.all(
      Array.from({ length: 8 }, async (_, i) => {
        await sleep(i * 200);
        const startMs = performance.now();
        const [outcome] = await Promise.allSettled([store.touch(keyOf(session))]);
        expect(outcome).toMatchObject(UNAVAILABLE);
        return performance.now() - startMs;
      }),
    );
    expect(Math.max(...waits)).toBeLessThan(2_000);
  });

  test("writes that wait when the store is closed are refused", async () => {
    const store = await open();
    const session = await addSession(store);
    using _other = holdLock();
    const write = Promise.allSettled([store.touch(keyOf(session))]);
    await sleep(100);
    await store.close();
    expect(await write).toMatchObject([UNAVAILABLE]);
  });
});
