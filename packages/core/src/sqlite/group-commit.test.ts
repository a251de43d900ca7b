import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, expect, test } from "vitest";
import { sessionNotFound } from "../errors.js";
import { GroupCommit } from "./group-commit.js";

let dir: string;
let db: DatabaseSync;
/** Sees only what has been committed. */
let observer: DatabaseSync;
let writes: GroupCommit;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "sessiond-"));
  const path = join(dir, "test.db");
  db = new DatabaseSync(path, { timeout: 0 });
  db.exec(`
    PRAGMA journal_mode = WAL;
    CREATE TABLE entries (
      entry TEXT PRIMARY KEY,
      parent TEXT REFERENCES entries DEFERRABLE INITIALLY DEFERRED
    ) STRICT`);
  observer = new DatabaseSync(path, { timeout: 0 });
  writes = new GroupCommit(db);
});
afterEach(async () => {
  db.close();
  observer.close();
  await rm(dir, { recursive: true });
});

function add(entry: string): string {
  db.prepare("INSERT INTO entries (entry) VALUES (?)").run(entry);
  return entry;
}

function committed(): unknown[] {
  return observer
    .prepare("SELECT entry FROM entries ORDER BY entry")
    .all()
    .map((row) => row["entry"]);
}

test("the writes of one turn are committed together, in their order", async () => {
  const seen: unknown[] = [];
  const run = (entry: string) =>
    writes.run(() => {
      seen.push([entry, committed()]);
      return add(entry);
    });
  const answers = await Promise.all([run("a"), Promise.resolve().then(() => run("b")), run("c")]);
  expect(answers).toEqual(["a", "b", "c"]);
  expect(seen).toEqual(["a", "c", "b"].map((entry) => [entry, []]));
  expect(committed()).toEqual(["a", "b", "c"]);
});

test("no promise is settled before the commit of all, and a refusal leaves the others alone", async () => {
  const views: unknown[] = [];
  const refuse = () => {
    throw sessionNotFound();
  };
  const outcomes = [() => add("a"), refuse, () => add("b")].map((operation) =>
    writes.run(operation).finally(() => views.push(committed())),
  );
  expect(await Promise.allSettled(outcomes)).toMatchObject([
    { value: "a" },
    { reason: { reason: "SESSION_NOT_FOUND" } },
    { value: "b" },
  ]);
  expect(views).toEqual(Array(3).fill(["a", "b"]));
});

test("an operation that fails is undone, and fails alone", async () => {
  let runs = 0;
  const outcomes = await Promise.allSettled([
    writes.run(() => add("a")),
    writes.run(() => {
      runs++;
      add("half");
      throw new TypeError("a fault of ours");
    }),
    writes.run(() => add("a")),
    writes.run(() => add("c")),
  ]);
  expect(outcomes).toMatchObject([
    { value: "a" },
    { reason: { name: "TypeError", message: "a fault of ours" } },
    { reason: { message: "UNIQUE constraint failed: entries.entry" } },
    { value: "c" },
  ]);
  expect(runs).toBe(2);
  expect(committed()).toEqual(["a", "c"]);
});

test("an operation that makes the commit fail is undone, and fails alone", async () => {
  const orphan = () => {
    db.exec("INSERT INTO entries VALUES ('orphan', 'missing')");
    return "orphan";
  };
  const outcomes = await Promise.allSettled([
    writes.run(() => add("a")),
    writes.run(orphan),
    writes.run(() => add("b")),
  ]);
  expect(outcomes).toMatchObject([
    { value: "a" },
    { reason: { message: "FOREIGN KEY constraint failed" } },
    { value: "b" },
  ]);
  expect(committed()).toEqual(["a", "b"]);
});

test("more writes than fit in a batch are all made", async () => {
  const entries = Array.from({ length: 2_500 }, (_, i) => `${i}`.padStart(4, "0"));
  await Promise.all(entries.map((entry) => writes.run(() => add(entry))));
  expect(committed()).toEqual(entries);
});
