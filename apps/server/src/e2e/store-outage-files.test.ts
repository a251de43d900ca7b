import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { mountSmallDisk, smallDiskObstacle } from "@sessiond/core/testing";
import { expect, test, vi } from "vitest";
import { failureOf } from "../testing/outcome.js";
import { clientOver, GRPC } from "../testing/protocols.js";
import { byId, byToken, newSession } from "../testing/session-requests.js";
import { expectReadiness, expectStoreUnavailable, getText } from "../testing/store-unavailable.js";
import { temporaryDirectory } from "../testing/temporary-directory.js";
import { startTestServer } from "../testing/test-server.js";

const OBSTACLE = smallDiskObstacle();
const FULL = expect.stringMatching(/"reason": "the disk is full and the reserve is in use/);

test("a database that is deleted under a server is no store any more: calls, readiness and log say so", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "sessions.db");
  await using server = await startTestServer({ store: `sqlite:${path}` });
  const client = clientOver(GRPC, server);
  const { sessionId, token } = await newSession(client);

  await rm(path);
  await expectStoreUnavailable(() => newSession(client));
  await expectStoreUnavailable(() => client.revokeSession(byId(sessionId)));
  await expectReadiness(server, 503);
  await expectStoreUnavailable(() => client.verifySession({ token }));
  const [, text] = await getText(server, "/readyz");
  expect(text).toContain("deleted or replaced");
  expect(text).not.toContain(directory.path);
  const lines = server.logs.filter(({ msg }) => msg === "store unavailable");
  expect(lines).toMatchObject([{ level: 50, error: expect.stringContaining("deleted") }]);
});

test.skipIf(OBSTACLE)(
  `on a full disk, sessions verify and end, and the operator is told${OBSTACLE ? ` (${OBSTACLE})` : ""}`,
  async () => {
    await using disk = await mountSmallDisk(24 * 1024 * 1024);
    const store = `sqlite:${join(disk.path, "sessions.db")}`;
    // Verifying touches a session after a tenth of its idle timeout.
    const policy = { maxSessionsPerUser: 1_000, idleTimeoutMs: 60_000 };
    await using server = await startTestServer({ store, policy });
    const client = clientOver(GRPC, server);
    const tokens: string[] = [];
    for (let i = 0; i < 100; i++) tokens.push((await newSession(client, { userId: "ann" })).token);
    // Meanwhile the reserve is built.
    await sleep(7_000);

    disk.fill();
    for (const token of tokens) {
      const { session } = await client.verifySession({ token });
      expect(session?.userId).toBe("ann");
    }
    // The files may have some room inside them.
    const createUntilRefused = async () => {
      for (;;) await Promise.all(Array.from({ length: 200 }, () => newSession(client)));
    };
    const refused = await failureOf(createUntilRefused());
    expect(refused).toMatchObject({ code: "RESOURCE_EXHAUSTED", reason: "OVERLOADED" });
    for (const token of tokens) {
      expect(await client.revokeSession(byToken(token))).toMatchObject({ revoked: true });
    }
    const readiness = async () => await getText(server, "/readyz");
    await vi.waitFor(async () => expect(await readiness()).toMatchObject([200, FULL]));
    expect(server.logs).toContainEqual(
      expect.objectContaining({ level: 50, msg: expect.stringContaining("the disk is full") }),
    );

    disk.free();
    const isWhole = async () => expect(await readiness()).not.toMatchObject([200, FULL]);
    await vi.waitFor(isWhole, { timeout: 15_000 });
    await newSession(client);
  },
);
