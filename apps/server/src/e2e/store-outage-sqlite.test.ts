import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { mintDevelopmentToken } from "../auth/development-keys.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import {
  bearer,
  GRPC,
  JSON_OVER_HTTP,
  type SessionServiceClient,
  sessionClient,
} from "../testing/protocols.js";
import { type ListeningServerProcess, spawnServer } from "../testing/server-process.js";
import { expectStoreUnavailable, MAX_ANSWER_MS, timed } from "../testing/store-unavailable.js";

/** How long the file is locked: longer than the server waits for it, twice over. */
const LOCKED_MS = 3_500;
/** What a read takes at most while writes wait: the server tries for the lock in between. */
const READ_MS = 500;

let directory: string;
let server: ListeningServerProcess;
let clients: readonly [SessionServiceClient, SessionServiceClient];
/** Has the file open in this process, which is not the server's. */
let other: DatabaseSync;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sessiond-locked-"));
  const path = join(directory, "sessions.db");
  server = await spawnServer({ flags: ["--data-dir", directory, "--store", `sqlite:${path}`] });
  const token = await mintDevelopmentToken({
    dataDir: directory,
    permissions: KNOWN_PERMISSIONS,
    subject: "locked",
    ttlMs: 600_000,
  });
  const over = (protocol: typeof GRPC) => sessionClient(protocol.open(server), bearer(token));
  clients = [over(GRPC), over(JSON_OVER_HTTP)];
  other = new DatabaseSync(path);
});
afterEach(async () => {
  other.close();
  await server[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

test("while another process has the file locked, writes fail in time, reads succeed, and all is well afterwards", async () => {
  const [client] = clients;
  const { session, token } = await client.createSession({ userId: "ann" });
  const sessionId = session?.id ?? "";
  const target = { case: "sessionId", value: sessionId } as const;

  other.exec("BEGIN IMMEDIATE");
  const endMs = performance.now() + LOCKED_MS;
  const writes: Promise<void>[] = [];
  const userIds: string[] = [];
  let reads = 0;
  // The last write begins early enough that the lock outlasts it.
  while (performance.now() < endMs - MAX_ANSWER_MS) {
    for (const each of clients) {
      const userId = randomUUID();
      userIds.push(userId);
      for (const write of [
        () => each.createSession({ userId }),
        () => each.createSession({ userId, requestId: randomUUID() }),
        () => each.updateSession({ sessionId, updateMask: { paths: ["roles"] } }),
        () => each.refreshSession({ target }),
        () => each.rotateSessionToken({ token }),
        () => each.revokeSession({ target }),
        () => each.revokeUserSessions({ userId: "ann" }),
      ]) {
        writes.push(expectStoreUnavailable(write));
      }
      for (const read of [
        () => each.verifySession({ token }),
        () => each.getSession({ sessionId }),
        () => each.listSessions({}),
        () => each.countSessions({}),
        () => fetch(`${server.httpUrl}/readyz`).then(({ ok }) => expect(ok).toBe(true)),
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

  // What failed was not made, and is not made now.
  await sleep(200);
  expect((await client.countSessions({})).count).toBe(1);
  const { session: still } = await client.verifySession({ token });
  expect(still?.etag).toBe(session?.etag);
  for (const userId of userIds.slice(0, 10)) await client.createSession({ userId });
  expect(await client.revokeSession({ target })).toMatchObject({ revoked: true });
});

test("a write that waits for another process's is made as soon as that is done", async () => {
  const [client] = clients;
  const { token } = await client.createSession({ userId: "ann" });
  other.exec("BEGIN IMMEDIATE");
  const write = timed(() => client.revokeSession({ target: { case: "token", value: token } }));
  await sleep(700);
  other.exec("COMMIT");
  const { elapsedMs, failure } = await write;
  expect(failure).toBeUndefined();
  expect(elapsedMs).toBeLessThan(1_200);
  expect((await client.countSessions({})).count).toBe(0);
});
