import { mkdtempDisposable, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { addSession, keyOf } from "../testing/contract/sessions/fixtures.js";
import { OLD_SCHEMA } from "./open-read-only.js";
import { SqliteSessionStore } from "./sqlite-session-store.js";

const temporaryDirectory = () => mkdtempDisposable(join(tmpdir(), "sessiond-"));

async function contentOf(folder: string): Promise<Readonly<Record<string, string>>> {
  const names = await readdir(folder);
  const contents = await Promise.all(names.map((name) => readFile(join(folder, name), "base64")));
  return Object.fromEntries(names.map((name, i) => [name, contents[i] ?? ""]));
}

test("a reader of a file that no server has open changes nothing in its folder", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "sessions.db");
  const server = await SqliteSessionStore.open({ path });
  const session = await addSession(server);
  await server.close();
  const before = await contentOf(directory.path);

  const reader = await SqliteSessionStore.open({ path, readOnly: true });
  expect((await reader.get(keyOf(session)))?.id).toBe(session.id);
  await expect(reader.revoke(keyOf(session), "")).rejects.toThrow("readonly");
  await reader.close();
  expect(await contentOf(directory.path)).toEqual(before);
});

test("a reader beside a running server sees its newest changes, and does not disturb it", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "sessions.db");
  const server = await SqliteSessionStore.open({ path });
  await addSession(server);
  const reader = await SqliteSessionStore.open({ path, readOnly: true });
  await addSession(server);
  expect(await reader.count()).toBe(2);
  await reader.close();
  await addSession(server);
  expect(await server.count()).toBe(3);
  await server.close();
});

test.each([
  ["an empty file", "", { message: expect.stringContaining("it is empty (0 bytes)") }],
  ["a file of text", "x".repeat(5_000), { message: expect.stringContaining("not a database") }],
])("a reader refuses %s", async (_, content, expected) => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "sessions.db");
  await writeFile(path, content);
  const opening = SqliteSessionStore.open({ path, readOnly: true });
  await expect(opening).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE", ...expected });
  expect((await stat(path)).size).toBe(content.length);
});

test("a reader says of a file that it must be migrated first", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "sessions.db");
  await (await SqliteSessionStore.open({ path })).close();
  const db = new DatabaseSync(path);
  db.exec("PRAGMA user_version = 1");
  db.close();
  const opening = SqliteSessionStore.open({ path, readOnly: true });
  await expect(opening).rejects.toMatchObject({ detail: OLD_SCHEMA });
});
