import { join } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { clientOver, GRPC, type SessionServiceClient } from "../testing/protocols.js";
import { developmentToken, spawnServer } from "../testing/server-process.js";
import { byToken } from "../testing/session-requests.js";
import { temporaryDirectory } from "../testing/temporary-directory.js";

const CALLERS = 8;
/** How many sessions of each kind are known to be stored before the server is killed. */
const ENOUGH = 150;
const CRASHES = 2;

/** The sessions that the server had answered for before it was killed. */
interface Acknowledged {
  readonly kept: string[];
  readonly revoked: string[];
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
      if (i % 2) await client.revokeSession(byToken(token));
      (i % 2 ? revoked : kept).push(token);
      onProgress();
    }
  } catch (error) {
    if (ConnectError.from(error).code !== Code.Unavailable) throw error;
  }
}

test("a server on SQLite that is killed under load keeps everything that it has answered", async () => {
  await using directory = await temporaryDirectory();
  const store = `sqlite:${join(directory.path, "sessions.db")}`;
  const start = () => spawnServer({ flags: ["--data-dir", directory.path, "--store", store] });
  const accessToken = await developmentToken(directory.path);
  const acknowledged: Acknowledged = { kept: [], revoked: [] };
  const { kept, revoked } = acknowledged;
  for (let crash = 1; crash <= CRASHES; crash++) {
    await using server = await start();
    const client = clientOver(GRPC, server, accessToken);
    const killWhenEnough = () => {
      if (Math.min(kept.length, revoked.length) >= crash * ENOUGH) server.kill("SIGKILL");
    };
    const loads = Array.from({ length: CALLERS }, (_, caller) =>
      load(client, crash * CALLERS + caller, acknowledged, killWhenEnough),
    );
    await Promise.all(loads);
    expect(await server.ended).toBe("SIGKILL");
  }

  await using server = await start();
  const client = clientOver(GRPC, server, accessToken);
  for (const [tokens, expected] of [
    [kept, "session"],
    [revoked, "error"],
  ] as const) {
    const { results } = await client.batchVerifySessions({ tokens });
    expect(new Set(results.map(({ result }) => result.case))).toEqual(new Set([expected]));
  }
  expect(server.logs.filter(({ level }) => Number(level) >= 40)).toEqual([]);
});
