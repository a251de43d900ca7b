import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, expect, test } from "vitest";
import { mintDevelopmentToken } from "../auth/development-keys.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import { bearer, GRPC, type SessionServiceClient, sessionClient } from "../testing/protocols.js";
import { type ListeningServerProcess, spawnServer } from "../testing/server-process.js";

const CALLERS = 8;
/** How many sessions of each kind are known to be stored before the server is killed. */
const ENOUGH = 150;
const CRASHES = 2;

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sessiond-crash-"));
});
afterAll(() => rm(directory, { recursive: true }));

/** What the server had answered to before it was killed. */
interface Acknowledged {
  readonly kept: string[];
  readonly revoked: string[];
}

async function start(): Promise<ListeningServerProcess> {
  const store = `sqlite:${join(directory, "sessions.db")}`;
  return spawnServer({ flags: ["--data-dir", directory, "--store", store] });
}

async function clientOf(server: ListeningServerProcess): Promise<SessionServiceClient> {
  const token = await mintDevelopmentToken({
    dataDir: directory,
    permissions: KNOWN_PERMISSIONS,
    subject: "crash",
    ttlMs: 600_000,
  });
  return sessionClient(GRPC.open(server), bearer(token));
}

/** Creates sessions, and revokes every other one, until the server is gone. */
async function load(
  client: SessionServiceClient,
  caller: number,
  { kept, revoked }: Acknowledged,
  onProgress: () => void,
): Promise<void> {
  try {
    for (let i = 0; ; i++) {
      const { token } = await client.createSession({ userId: `user-${caller}-${i >> 2}` });
      if (i % 2 === 0) {
        kept.push(token);
      } else {
        await client.revokeSession({ target: { case: "token", value: token } });
        revoked.push(token);
      }
      onProgress();
    }
  } catch (error) {
    if (ConnectError.from(error).code !== Code.Unavailable) throw error;
  }
}

test("what a server on SQLite has answered survives its being killed under load", async () => {
  const acknowledged: Acknowledged = { kept: [], revoked: [] };
  for (let crash = 1; crash <= CRASHES; crash++) {
    await using server = await start();
    const client = await clientOf(server);
    const killWhenEnough = () => {
      const { kept, revoked } = acknowledged;
      if (Math.min(kept.length, revoked.length) >= crash * ENOUGH) server.kill("SIGKILL");
    };
    await Promise.all(
      Array.from({ length: CALLERS }, (_, caller) =>
        load(client, crash * CALLERS + caller, acknowledged, killWhenEnough),
      ),
    );
    expect(await server.ended).toBe("SIGKILL");
  }

  await using server = await start();
  const client = await clientOf(server);
  const caseOf = async (token: string) => {
    const { results } = await client.batchVerifySessions({ tokens: [token] });
    return results[0]?.result.case;
  };
  for (const token of acknowledged.kept) expect(await caseOf(token)).toBe("session");
  for (const token of acknowledged.revoked) expect(await caseOf(token)).toBe("error");
  expect(server.logs.filter(({ level }) => Number(level) >= 40)).toEqual([]);
});
