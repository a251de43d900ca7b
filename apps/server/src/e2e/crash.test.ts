import { join } from "node:path";
import { expect, test } from "vitest";
import { clientOver, GRPC } from "../testing/protocols.js";
import { developmentToken, spawnServer } from "../testing/server-process.js";
import { byToken } from "../testing/session-requests.js";
import { temporaryDirectory } from "../testing/temporary-directory.js";

const CALLERS = 8;
/** How many sessions of each kind are known to be stored before the server is killed. */
const ENOUGH = 150;
const CRASHES = 2;

test("a server on SQLite that is killed under load keeps everything that it has answered", async () => {
  await using directory = await temporaryDirectory();
  const store = `sqlite:${join(directory.path, "sessions.db")}`;
  const start = () =>
    spawnServer({ flags: ["--dev", "--data-dir", directory.path, "--store", store] });
  const accessToken = await developmentToken(directory.path);
  // What the server had answered for before it was killed.
  const kept: string[] = [];
  const revoked: string[] = [];
  for (let crash = 1; crash <= CRASHES; crash++) {
    await using server = await start();
    const client = clientOver(GRPC, server, accessToken);
    let isKilled = false;
    /** Creates sessions, and revokes every other one, until the server is gone. */
    const load = async (caller: number) => {
      for (let i = 0; ; i++) {
        const userId = `user-${crash}-${caller}-${i >> 2}`;
        const { token } = await client.createSession({ userId });
        if (i % 2) await client.revokeSession(byToken(token));
        (i % 2 ? revoked : kept).push(token);
        if (Math.min(kept.length, revoked.length) < crash * ENOUGH) continue;
        isKilled = true;
        server.kill("SIGKILL");
      }
    };
    const loads = Array.from({ length: CALLERS }, (_, caller) => load(caller));
    for (const outcome of await Promise.allSettled(loads)) {
      expect(isKilled, String(outcome.status === "rejected" && outcome.reason)).toBe(true);
    }
    expect(await server.ended).toBe("SIGKILL");
  }

  await using server = await start();
  const client = clientOver(GRPC, server, accessToken);
  const casesOf = async (tokens: readonly string[]) => {
    const { results } = await client.batchVerifySessions({ tokens: [...tokens] });
    return [...new Set(results.map(({ result }) => result.case))];
  };
  expect(await casesOf(kept)).toEqual(["session"]);
  expect(await casesOf(revoked)).toEqual(["error"]);
  expect(server.logs.filter(({ level }) => level !== "info")).toEqual([]);
});
