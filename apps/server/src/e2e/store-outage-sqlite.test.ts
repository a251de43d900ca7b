import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  clientOver,
  GRPC,
  JSON_OVER_HTTP,
  type SessionServiceClient,
} from "../testing/protocols.js";
import { developmentToken, spawnServer } from "../testing/server-process.js";
import { byId, byToken, newSession, renaming } from "../testing/session-requests.js";
import { expectStoreUnavailable, MAX_ANSWER_MS, timed } from "../testing/store-unavailable.js";
import { temporaryDirectory } from "../testing/temporary-directory.js";

/** How long the file is locked: longer than the server waits for it, twice over. */
const LOCKED_MS = 3_500;
/** The longest a read takes while writes wait: the server tries for the lock in between. */
const READ_MS = 500;

let opened: AsyncDisposableStack;
let httpUrl: string;
let clients: readonly [SessionServiceClient, SessionServiceClient];
/** Has the file open in this process, which is not the server's. */
let other: DatabaseSync;

beforeEach(async () => {
  opened = new AsyncDisposableStack();
  const { path } = opened.use(await temporaryDirectory());
  const file = join(path, "sessions.db");
  const flags = ["--dev", "--data-dir", path, "--store", `sqlite:${file}`];
  const server = opened.use(await spawnServer({ flags }));
  const token = await developmentToken(path);
  clients = [clientOver(GRPC, server, token), clientOver(JSON_OVER_HTTP, server, token)];
  httpUrl = server.httpUrl;
  other = opened.adopt(new DatabaseSync(file), (database) => database.close());
});
afterEach(() => opened.disposeAsync());

test("while another process has the file locked, writes fail in time, reads succeed, and all is well afterwards", async () => {
  const [client] = clients;
  const { session, sessionId, token } = await newSession(client, { userId: "ann" });

  other.exec("BEGIN IMMEDIATE");
  const endMs = performance.now() + LOCKED_MS;
  const writes: Promise<void>[] = [];
  let reads = 0;
  // The last write begins early enough that the lock outlasts it.
  while (performance.now() < endMs - MAX_ANSWER_MS) {
    for (const each of clients) {
      for (const write of [
        () => newSession(each),
        () => newSession(each, { requestId: randomUUID() }),
        () => each.updateSession(renaming(sessionId, "x")),
        () => each.refreshSession(byId(sessionId)),
        () => each.rotateSessionToken({ token }),
        () => each.revokeSession(byId(sessionId)),
        () => each.revokeUserSessions({ userId: "ann" }),
      ]) {
        writes.push(expectStoreUnavailable(write));
      }
      for (const read of [
        () => each.verifySession({ token }),
        () => each.getSession({ sessionId }),
        () => each.listSessions({}),
        () => each.countSessions({}),
        () => fetch(`${httpUrl}/readyz`).then(({ ok }) => expect(ok).toBe(true)),
      ]) {
        const { elapsedMs, failure } = await timed(read);
        expect(failure).toBeUndefined();
        expect(elapsedMs).toBeLessThan(READ_MS);
        reads++;
      }
    }
    await sleep(50);
  }
  await Promise.all(writes);
  expect(reads).toBeGreaterThan(20);
  other.exec("ROLLBACK");

  // A write that failed was not made, and is not made now.
  await sleep(200);
  expect((await client.countSessions({})).count).toBe(1);
  const { session: still } = await client.verifySession({ token });
  expect(still?.etag).toBe(session.etag);
  for (const each of clients) await newSession(each);
  expect(await client.revokeSession(byId(sessionId))).toMatchObject({ revoked: true });
});

test("a write that waits for another process's is made as soon as that is done", async () => {
  const [client] = clients;
  const { token } = await newSession(client);
  other.exec("BEGIN IMMEDIATE");
  const write = timed(() => client.revokeSession(byToken(token)));
  await sleep(700);
  other.exec("COMMIT");
  const { elapsedMs, failure } = await write;
  expect(failure).toBeUndefined();
  expect(elapsedMs).toBeLessThan(1_200);
  expect((await client.countSessions({})).count).toBe(0);
});
