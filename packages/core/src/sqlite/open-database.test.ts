import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { MIGRATIONS } from "./migrations.js";
import { SqliteSessionStore } from "./sqlite-session-store.js";

let dir: string;
let path: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "sessiond-"));
  path = join(dir, "sessions.db");
});
afterEach(() => rm(dir, { recursive: true }));

/** Runs SQL in a file, as another program would. */
function inFile(sql: string): void {
  using db = new DatabaseSync(path);
  db.exec(sql);
}

function pragma(name: string): unknown {
  using db = new DatabaseSync(path);
  return db.prepare(`PRAGMA ${name}`).get()?.[name];
}

describe("a file that cannot be used is refused with the reason:", () => {
  async function expectRefusal(why: string): Promise<void> {
    const opening = SqliteSessionStore.open({ path });
    await expect(opening).rejects.toMatchObject({
      reason: "STORE_UNAVAILABLE",
      message: expect.stringContaining(why),
    });
  }

  test("one that a newer version has written", async () => {
    await (await SqliteSessionStore.open({ path })).close();
    inFile(`PRAGMA user_version = ${MIGRATIONS.length + 1}`);
    await expectRefusal(`cannot open ${path}: it was written by a newer version of sessiond`);
    expect(pragma("user_version")).toBe(MIGRATIONS.length + 1);
  });

  test("one of a development version, whose sessions have no namespace", async () => {
    inFile("CREATE TABLE sessions (id TEXT); PRAGMA application_id = 0x73736e64");
    await expectRefusal("it was written by a development version of sessiond");
    inFile("SELECT id FROM sessions");
  });

  test("the database of another application", async () => {
    inFile("CREATE TABLE recipes (name TEXT)");
    await expectRefusal("it is the database of another application");
    inFile("SELECT name FROM recipes");
    expect(pragma("user_version")).toBe(0);
  });

  test("one that is empty, which SQLite would take for a new store", async () => {
    await writeFile(path, "");
    await expectRefusal("it is empty (0 bytes)");
    expect((await stat(path)).size).toBe(0);
    expect(await readdir(dir)).toEqual(["sessions.db"]);
  });

  test("one in a folder that does not exist, which is not made", async () => {
    path = join(dir, "typo", "sessions.db");
    await expectRefusal("its folder does not exist");
    expect(await readdir(dir)).toEqual([]);
  });

  test("no database at all, a directory, no directory, no path", async () => {
    await writeFile(path, "Dear diary,\n".repeat(100));
    await expectRefusal("file is not a database");
    for (const unusable of [dir, join(path, "sessions.db")]) {
      path = unusable;
      await expectRefusal(`cannot open ${unusable}`);
    }
    path = "";
    await expectRefusal("cannot open");
  });
});
