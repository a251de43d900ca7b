import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, expect, test } from "vitest";
import { sessionNotFound } from "../errors.js";
import { SqliteDatabase } from "./sqlite-database.js";

let dir: string;
let database: SqliteDatabase;
/** Another process, as far as SQLite can tell. */
let other: DatabaseSync;
let clockMs: number;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "sessiond-"));
  const path = join(dir, "test.db");
  clockMs = 0;
  database = await SqliteDatabase.open({ path, now: () => ++clockMs });
  database.db.exec("CREATE TABLE entries (entry TEXT PRIMARY KEY) STRICT");
  other = new DatabaseSync(path);
});
afterEach(async () => {
  database.close();
  other.close();
  await rm(dir, { recursive: true });
});

function countEntries(): unknown {
  return database.db.prepare("SELECT COUNT(*) AS count FROM entries").get()?.["count"];
}

function addFromOutside(entry: string): void {
  other.prepare("INSERT INTO entries (entry) VALUES (?)").run(entry);
}

test("reads of one turn see one moment, whatever another process commits in between", async () => {
  const read = () => database.readTogether((now) => [now, countEntries()]);
  const answers = await Promise.all([
    read(),
    database.readTogether(() => addFromOutside("a")),
    read(),
    Promise.resolve().then(read),
  ]);
  expect(answers).toEqual([[1, 0], undefined, [1, 0], [1, 0]]);
  expect(await read()).toEqual([2, 1]);
});

test("a read does not wait for a write of its turn, and sees those that were committed before", async () => {
  const order: unknown[] = [];
  const add = (entry: string) =>
    database.write(() => {
      database.db.prepare("INSERT INTO entries VALUES (?)").run(entry);
      order.push(entry);
    });
  const read = async () => order.push(await database.readTogether(countEntries));
  await add("a");
  await Promise.all([add("b"), read(), add("c"), read()]);
  await read();
  expect(order).toEqual(["a", 1, 1, "b", "c", 3]);
});

test("very many reads of one turn are all answered, some at a time, and one that fails fails alone", async () => {
  const reads = Array.from({ length: 1_200 }, () => database.readTogether((now) => now));
  const failing = database.readTogether(() => {
    throw sessionNotFound();
  });
  await expect(failing).rejects.toMatchObject({ reason: "SESSION_NOT_FOUND" });
  expect(new Set(await Promise.all(reads))).toEqual(new Set([1, 2, 3]));
  expect(await database.readTogether(countEntries)).toBe(0);
});

test("reads that wait when the database is closed are refused", async () => {
  const waiting = [database.readTogether(countEntries), database.readTogether(countEntries)];
  database.close();
  const refused = { status: "rejected", reason: { reason: "STORE_UNAVAILABLE" } };
  expect(await Promise.allSettled(waiting)).toMatchObject([refused, refused]);
});
