import { once } from "node:events";
import { chmod, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import {
  EVICTION_REASON,
  type NewSession,
  type SessionKey,
  type StoredSession,
} from "../sessions/session-store.js";
import {
  ACTIVE,
  addSession,
  addSessions,
  assertSame,
  comparable,
  EVERYTHING,
  hex,
  keyOf,
  listAll,
  newSession,
} from "../testing/contract/sessions/fixtures.js";
import { spawnTypeScript } from "../testing/processes/spawn-typescript.js";
import { MIGRATIONS, migrate } from "./migrations.js";
import { SqliteSessionStore } from "./sqlite-session-store.js";

let dir: string;
let path: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "sessiond-"));
  path = join(dir, "sessions.db");
});
afterEach(() => rm(dir, { recursive: true }));

async function modeOf(file: string): Promise<string> {
  return ((await stat(file)).mode & 0o777).toString(8);
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

test("the file and its directories are made for the owner alone", async () => {
  path = join(dir, "a", "b", "sessions.db");
  const store = await SqliteSessionStore.open({ path });
  await addSession(store);
  expect(await modeOf(join(dir, "a"))).toBe("700");
  expect(await modeOf(join(dir, "a", "b"))).toBe("700");
  const files = await readdir(join(dir, "a", "b"));
  expect(files).toEqual(["sessions.db", "sessions.db-shm", "sessions.db-wal"]);
  for (const file of files) expect(await modeOf(join(dir, "a", "b", file))).toBe("600");
  await store.close();
});

test("a path is a path, even where SQLite would read a URI", async () => {
  path = join(dir, "file:sessions.db?mode=memory");
  const store = await SqliteSessionStore.open({ path });
  const session = await addSession(store);
  await store.close();
  expect(await readdir(dir)).toEqual(["file:sessions.db?mode=memory"]);
  const again = await SqliteSessionStore.open({ path });
  expect(await again.get(keyOf(session))).toBeDefined();
  await again.close();
});

test("sessions and tombstones survive a restart", async () => {
  const first = await SqliteSessionStore.open({ path });
  const kept = await addSession(first, { id: "jti-1" });
  const revoked = await addSession(first);
  await first.revoke(keyOf(revoked), "logout");
  await first.close();

  const second = await SqliteSessionStore.open({ path });
  assertSame(await second.get(keyOf(kept)), kept);
  expect(await second.touch(keyOf(kept), kept.tokenHash)).toBeDefined();
  expect(await second.get(keyOf(revoked))).toBeUndefined();
  const listed = await listAll(second, { ...EVERYTHING, showExpired: false });
  expect(listed.find(({ id }) => id === revoked.id)?.revokeReason).toBe("logout");
  await second.close();
});

test("closing leaves one file, with everything in it", async () => {
  const store = await SqliteSessionStore.open({ path });
  await addSession(store);
  await store.close();
  expect(await readdir(dir)).toEqual(["sessions.db"]);
});

/** Opens the file, and the connection that the store does its work with. */
async function openWithConnection(): Promise<[SqliteSessionStore, DatabaseSync]> {
  const exec = vi.spyOn(DatabaseSync.prototype, "exec");
  try {
    const store = await SqliteSessionStore.open({ path });
    const [connection] = exec.mock.contexts;
    if (!(connection instanceof DatabaseSync)) throw new Error("expected a connection");
    return [store, connection];
  } finally {
    exec.mockRestore();
  }
}

test("commits are synced to the disk, through a WAL", async () => {
  const [store, connection] = await openWithConnection();
  const pragmaOf = (name: string) => connection.prepare(`PRAGMA ${name}`).get()?.[name];
  const FULL = 2;
  expect(pragmaOf("journal_mode")).toBe("wal");
  expect(pragmaOf("synchronous")).toBe(FULL);
  await store.close();
});

test("a full disk refuses new sessions, keeps what there is, and is got over", async () => {
  const [store, connection] = await openWithConnection();
  const session = await addSession(store);
  const pages = Number(connection.prepare("PRAGMA page_count").get()?.["page_count"]);
  connection.exec(`PRAGMA max_page_count = ${pages + 20}`);
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
  const [active] = await listAll(store, ACTIVE);
  if (active === undefined) throw new Error("expected a session");
  const tooLarge = store.replaceRecord(keyOf(active), 1, new Uint8Array(200_000));
  await expect(tooLarge).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });

  connection.exec(`PRAGMA max_page_count = ${pages + 2_000}`);
  await addSessions(store, 40, { record });
  expect(await store.count()).toBe(80 - refused.length);
  await store.close();
  expect(pragma("integrity_check")).toBe("ok");
});

test("a request that a full disk refuses has left no trace, and may be made again", async () => {
  const [store, connection] = await openWithConnection();
  const pages = Number(connection.prepare("PRAGMA page_count").get()?.["page_count"]);
  connection.exec(`PRAGMA max_page_count = ${pages}`);
  const limit = { maxSessionsPerUser: 10, policy: "reject" } as const;
  // The session has room; what to answer a repetition with has not.
  const request = { key: "caller:1", record: new Uint8Array(100_000), keptForMs: 600_000 };
  const session = newSession();
  const refused = store.createOnce(request, session, limit);
  await expect(refused).rejects.toMatchObject({ reason: "OVERLOADED" });
  expect(await store.count()).toBe(0);
  const start = await store.events.end();

  connection.exec(`PRAGMA max_page_count = ${pages + 2_000}`);
  expect(await store.createOnce(request, session, limit)).not.toHaveProperty("repeated");
  expect(await store.events.read(start, 10)).toMatchObject({ events: [{ type: "created" }] });
  await store.close();
});

test("the clock is the system's and ended sessions stay for ten minutes, unless said otherwise", async () => {
  const store = await SqliteSessionStore.open({ path });
  const beforeMs = Date.now();
  const session = await addSession(store);
  expect(session.createTimeMs).toBeGreaterThanOrEqual(beforeMs);
  expect(session.createTimeMs).toBeLessThanOrEqual(Date.now());
  await store.revoke(keyOf(session), "");
  const endedAgo = (ms: number) => inFile(`UPDATE sessions SET end_time_ms = ${Date.now() - ms}`);
  endedAgo(9.9 * 60_000);
  expect((await store.sweep(10)).reclaimed).toBe(0);
  endedAgo(10 * 60_000);
  expect((await store.sweep(10)).reclaimed).toBe(1);
  await store.close();
});

describe("a file that cannot be used is refused with the reason:", () => {
  async function refusal(): Promise<string> {
    const error = await SqliteSessionStore.open({ path }).then(
      (store) => store.close(),
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({ name: "SessiondError", reason: "STORE_UNAVAILABLE" });
    return String(error);
  }

  test("one that a newer version has written", async () => {
    await (await SqliteSessionStore.open({ path })).close();
    inFile(`PRAGMA user_version = ${MIGRATIONS.length + 1}`);
    expect(await refusal()).toContain(
      `cannot open ${path}: it was written by a newer version of sessiond`,
    );
    expect(pragma("user_version")).toBe(MIGRATIONS.length + 1);
  });

  test("the database of another application", async () => {
    inFile("CREATE TABLE recipes (name TEXT)");
    expect(await refusal()).toContain("it is the database of another application");
    inFile("SELECT name FROM recipes");
    expect(pragma("user_version")).toBe(0);
  });

  test("no database at all", async () => {
    await writeFile(path, "Dear diary,\n".repeat(100));
    expect(await refusal()).toContain("file is not a database");
  });

  test("a directory", async () => {
    path = dir;
    expect(await refusal()).toContain(`cannot open ${dir}`);
  });

  test("one whose directory cannot be made", async () => {
    await writeFile(path, "");
    path = join(path, "sessions.db");
    expect(await refusal()).toContain(`cannot open ${path}`);
  });

  test("the empty path", async () => {
    path = "";
    expect(await refusal()).toContain("cannot open");
  });
});

test("a file that others may read is left as its owner made it", async () => {
  await writeFile(path, "");
  await chmod(path, 0o640);
  await (await SqliteSessionStore.open({ path })).close();
  expect(await modeOf(path)).toBe("640");
});

/** Makes a file as the first version of the schema had it, with a session in it. */
function makeFileOfVersion1(session: NewSession): void {
  using db = new DatabaseSync(path);
  migrate(db, MIGRATIONS.slice(0, 1));
  const { key, userId, tokenHash, record } = session;
  const now = Date.now();
  db.prepare(
    `INSERT INTO sessions VALUES (
      :id, :partition, :userId, :now, :now, :now, 60000, :now + 60000, :now + 600000, 3,
      :tokenHash, :record, NULL, NULL, NULL
    )`,
  ).run({ ...key, userId, tokenHash, record, now });
}

describe("migrations", () => {
  test("give a file of the first version an event log, and keep its sessions", async () => {
    const session = newSession();
    makeFileOfVersion1(session);
    expect(pragma("user_version")).toBe(1);
    const store = await SqliteSessionStore.open({ path });
    expect(pragma("user_version")).toBe(MIGRATIONS.length);
    expect(comparable(await kept(store, session.key))).toMatchObject({
      userId: session.userId,
      version: 3,
      record: hex(session.record),
    });
    const start = await store.events.end();
    expect(await store.events.read(start, 10)).toMatchObject({ events: [], isComplete: true });
    await store.revoke(session.key, "logout");
    expect(await store.events.read(start, 10)).toMatchObject({
      events: [{ type: "revoked", sessionId: session.key.id, version: 4, reason: "logout" }],
    });
    await store.close();
  });

  async function kept(store: SqliteSessionStore, key: SessionKey): Promise<StoredSession> {
    const session = await store.get(key);
    if (session === undefined) throw new Error("the session is gone");
    return session;
  }

  const added = "ALTER TABLE sessions ADD COLUMN shoe_size INTEGER";

  test("bring an older file to the newest version and keep its sessions", async () => {
    const store = await SqliteSessionStore.open({ path });
    const session = await addSession(store);
    await store.close();
    using db = new DatabaseSync(path);
    migrate(db, [...MIGRATIONS, added]);
    const row = db.prepare("SELECT id, shoe_size FROM sessions").get();
    expect({ ...row }).toEqual({ id: session.id, shoe_size: null });
    migrate(db, [...MIGRATIONS, added]);
    expect(pragma("user_version")).toBe(MIGRATIONS.length + 1);
  });

  test("that fail leave the file as it was", async () => {
    await (await SqliteSessionStore.open({ path })).close();
    using db = new DatabaseSync(path);
    expect(() => migrate(db, [...MIGRATIONS, added, "CREATE TABLE sessions (x)"])).toThrow();
    expect(pragma("user_version")).toBe(MIGRATIONS.length);
    expect(() => db.prepare("SELECT shoe_size FROM sessions")).toThrow("no such column");
  });
});

test("servers that open a new file at the same moment all get it", async () => {
  const stores = await Promise.all(
    Array.from({ length: 4 }, () => run("open-file.test.child.ts", [path])),
  );
  expect(stores).toEqual(Array(4).fill("opened\n"));
  expect(pragma("user_version")).toBe(MIGRATIONS.length);
});

test("a new file that another program is writing to is waited for", async () => {
  const child = spawnTypeScript(new URL("hold-lock.test.child.ts", import.meta.url), [path, "300"]);
  await once(child.stdout ?? child, "data");
  const store = await SqliteSessionStore.open({ path });
  await addSession(store);
  await store.close();
});

test("servers in different processes share a file, and none exceeds the limit", async () => {
  const outputs = await Promise.all(
    Array.from({ length: 3 }, () => run("open-file.test.child.ts", [path, "100"])),
  );
  const evicted = outputs.flatMap((output) => output.match(/evicted \S+/g) ?? []);
  const store = await SqliteSessionStore.open({ path });
  expect(await store.count("user")).toBe(10);
  expect(evicted).toHaveLength(290);
  expect(new Set(evicted).size).toBe(290);
  await store.close();
});

/** Runs a file of this directory to its end and answers what it printed. */
async function run(name: string, args: readonly string[]): Promise<string> {
  const child = spawnTypeScript(new URL(name, import.meta.url), args);
  let output = "";
  child.stdout?.on("data", (chunk) => {
    output += chunk;
  });
  await once(child, "close");
  return output;
}

describe("a server that is killed", () => {
  /** Runs the writer until it has said that much, kills it, and answers all that it said. */
  async function killAfter(lines: number): Promise<string[][]> {
    const child = spawnTypeScript(new URL("crash-writer.test.child.ts", import.meta.url), [path]);
    let output = "";
    child.stdout?.on("data", (chunk) => {
      output += chunk;
      if (output.split("\n").length > lines) child.kill("SIGKILL");
    });
    const [, signal] = await once(child, "close");
    expect(signal).toBe("SIGKILL");
    // What follows the last line end was cut off in the middle.
    return output
      .split("\n")
      .slice(0, -1)
      .map((line) => line.split(" "));
  }

  function assertWhole(sessions: readonly StoredSession[]): void {
    for (const { version, tokenHash, revokeTimeMs, revokeReason } of sessions) {
      const revoked = revokeTimeMs !== undefined;
      expect({
        version,
        hashBytes: tokenHash.length,
        hasReason: revokeReason !== undefined,
      }).toEqual(
        revoked
          ? { version: 2, hashBytes: 0, hasReason: true }
          : { version: 1, hashBytes: 32, hasReason: false },
      );
    }
  }

  function assertEachChangeHasItsEvent(sessions: readonly StoredSession[]): void {
    using db = new DatabaseSync(path);
    const versions = db.prepare(
      "SELECT version FROM session_events WHERE session_id = ? ORDER BY sequence",
    );
    for (const { id, version } of sessions) {
      const told = versions.all(id).map((row) => row["version"]);
      expect(told).toEqual(version === 2 ? [1, 2] : [1]);
    }
    const events = db.prepare("SELECT count(*) AS count FROM session_events").get()?.["count"];
    expect(events).toBe(sessions.reduce((sum, { version }) => sum + version, 0));
  }

  test("has kept every acknowledged change, and nothing by halves", async () => {
    const said: string[][] = [];
    for (const lines of [1, 150, 300, 77]) {
      said.push(...(await killAfter(lines)));
      const idsAfter = (word: string) =>
        said.filter(([first]) => first === word).map(([, id = ""]) => id);
      expect(pragma("integrity_check")).toBe("ok");

      const store = await SqliteSessionStore.open({ path });
      const sessions = await listAll(store, EVERYTHING);
      const byId = new Map(sessions.map((session) => [session.id, session]));
      assertWhole(sessions);
      assertEachChangeHasItsEvent(sessions);
      for (const id of idsAfter("created")) expect(byId.has(id), `${id} was created`).toBe(true);
      for (const id of idsAfter("revoked")) {
        expect(byId.get(id)?.revokeTimeMs, `${id} was revoked`).toBeDefined();
      }
      const maybeRevoked = new Set([...idsAfter("revoked"), ...idsAfter("revoking")]);
      for (const { id, revokeReason = EVICTION_REASON } of sessions) {
        if (!maybeRevoked.has(id)) expect(revokeReason).toBe(EVICTION_REASON);
      }
      const active = await listAll(store, ACTIVE);
      expect(await store.count()).toBe(active.length);
      for (const user of ["ann", "bob", "carol"]) {
        expect(await store.count(user)).toBeLessThanOrEqual(3);
      }
      await store.close();
    }
  });
});

describe("while another process holds the write lock", () => {
  test("reads go on, and writes wait for it", async () => {
    const store = await SqliteSessionStore.open({ path });
    const session = await addSession(store);
    const child = spawnTypeScript(new URL("hold-lock.test.child.ts", import.meta.url), [
      path,
      "500",
    ]);
    const ended = once(child, "close");
    await once(child.stdout ?? child, "data");
    expect(await store.get(keyOf(session))).toBeDefined();
    expect(await store.touch(keyOf(session))).toBeDefined();
    await ended;
    await store.close();
  });

  test("writes are given up together within two seconds, and are not made later", async () => {
    const store = await SqliteSessionStore.open({ path });
    const [session] = await addSessions(store, 1);
    if (session === undefined) throw new Error("expected a session");
    using other = new DatabaseSync(path);
    other.exec("BEGIN IMMEDIATE");
    const startMs = performance.now();
    const writes = await Promise.allSettled([
      store.revoke(keyOf(session), ""),
      addSession(store),
      store.touch(keyOf(session)),
    ]);
    const elapsedMs = performance.now() - startMs;
    expect(elapsedMs).toBeGreaterThan(1_400);
    expect(elapsedMs).toBeLessThan(2_000);
    for (const write of writes) {
      expect(write).toMatchObject({ reason: { reason: "STORE_UNAVAILABLE" } });
    }
    other.exec("ROLLBACK");
    expect(await store.count()).toBe(1);
    expect(await store.revoke(keyOf(session), "")).toBe(true);
    await store.close();
  });

  test("a write does not also wait for as long as those before it", async () => {
    const store = await SqliteSessionStore.open({ path });
    const session = await addSession(store);
    using other = new DatabaseSync(path);
    other.exec("BEGIN IMMEDIATE");
    const waits = await Promise.all(
      Array.from({ length: 8 }, async (_, i) => {
        await sleep(i * 200);
        const startMs = performance.now();
        const outcome = await Promise.allSettled([store.touch(keyOf(session))]);
        expect(outcome).toMatchObject([{ reason: { reason: "STORE_UNAVAILABLE" } }]);
        return performance.now() - startMs;
      }),
    );
    expect(Math.max(...waits)).toBeLessThan(2_000);
    await store.close();
  });

  test("reads are hardly held up while writes wait", async () => {
    const store = await SqliteSessionStore.open({ path });
    const session = await addSession(store);
    using other = new DatabaseSync(path);
    other.exec("BEGIN IMMEDIATE");
    const write = store.touch(keyOf(session));
    for (let n = 0; n < 20; n++) {
      // By the clock of whoever asks: that the store stops the event loop counts.
      const startMs = performance.now();
      await sleep(10);
      expect(await store.get(keyOf(session))).toBeDefined();
      expect(performance.now() - startMs).toBeLessThan(300);
    }
    other.exec("ROLLBACK");
    expect(await write).toBeDefined();
    await store.close();
  });

  test("writes that wait when the store is closed are refused", async () => {
    const store = await SqliteSessionStore.open({ path });
    const session = await addSession(store);
    using other = new DatabaseSync(path);
    other.exec("BEGIN IMMEDIATE");
    const write = Promise.allSettled([store.touch(keyOf(session))]);
    await sleep(100);
    await store.close();
    expect(await write).toMatchObject([{ reason: { reason: "STORE_UNAVAILABLE" } }]);
  });
});
