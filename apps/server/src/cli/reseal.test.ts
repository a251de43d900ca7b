import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createSessionClient, type SessionClient, SessiondError } from "@sessiond/client";
import { Keyring } from "@sessiond/core";
import { startRedisServer } from "@sessiond/core/testing";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { mintDevelopmentToken } from "../auth/development-keys.js";
import { parseStoreLocation } from "../config/store-location.js";
import { openStores } from "../daemon/open-stores.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import {
  type ListeningServerProcess,
  type ServerProcess,
  spawnServer,
  spawnSessiond,
} from "../testing/server-process.js";

const SESSIONS = 2_000;
const SESSIONS_PER_USER = 10;
const REVOKED = 25;
/** How many sessions the load keeps changing, and how many at a time. */
const BUSY_SESSIONS = 60;
const UPDATES_AT_A_TIME = 3;
/** How often stopping in the middle is tried: a signal may come when all is done already. */
const STOP_ATTEMPTS = 10;

/** What calls fail with whose server is stopped, or whose client is closed. */
const LEAVING: ReadonlySet<string> = new Set(["UNAVAILABLE", "CANCELED"]);

const OLD = Keyring.generateKey("old");
const NEW = Keyring.generateKey("new");

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sessiond-reseal-"));
});
afterEach(() => rm(directory, { recursive: true }));

describe.each([
  {
    name: "SQLite",
    open: async () => ({
      url: `sqlite:${join(directory, "sessions.db")}`,
      [Symbol.asyncDispose]: async () => {},
    }),
  },
  { name: "Redis", open: startRedisServer },
])("sessiond keys reseal on $name", ({ open }) => {
  test("rotates keys under load, is stopped and goes on, and the old key can go", {
    timeout: 120_000,
  }, async () => {
    await using store = await open();
    const surroundings = await prepare(store.url);
    let server = await serve(surroundings, OLD);
    let client = surroundings.connect(server);
    const created = await createSessions(client);
    const load = startLoad(created.slice(0, BUSY_SESSIONS), () => client);

    const replaceServer = async (keyring: string) => {
      const [oldServer, oldClient] = [server, client];
      server = await serve(surroundings, keyring);
      client = surroundings.connect(server);
      oldServer.kill("SIGTERM");
      expect(await oldServer.ended).toBe(0);
      oldClient.close();
    };
    try {
      await replaceServer(`${OLD},${NEW}`);
      // Too early, since the server still seals under the old key: harmless.
      await stopInTheMiddle(surroundings, "SIGINT", 130);
      await replaceServer(`${NEW},${OLD}`);
      await stopInTheMiddle(surroundings, "SIGTERM", 143);
      const { code, stdout, stderr } = await reseal(surroundings, `${NEW},${OLD}`);
      expect({ code, stderr }).toMatchObject({ code: 0 });
      expect(stdout).toMatch(
        /^resealed \d+ sessions under key "new"; \d+ already were, 0 are unreadable\n$/,
      );
      expect(await keyIds(store.url)).toEqual(new Map([["new", SESSIONS]]));
    } finally {
      await load.stop();
    }
    expect(load.updates).toBeGreaterThan(0);
    expect(load.faults).toEqual([]);

    const again = await reseal(surroundings, `${NEW},${OLD}`);
    expect(again.stdout).toContain(`resealed 0 sessions under key "new"; ${SESSIONS} already were`);
    await replaceServer(NEW);
    await expectAllToVerify(client, created, load.written);
    client.close();
    await server[Symbol.asyncDispose]();
  });

  test("lists what no key opens, leaves it as it is, and fails", async () => {
    await using store = await open();
    const surroundings = await prepare(store.url);
    const lost = await createOne(surroundings, Keyring.generateKey("lost"));
    const kept = await createOne(surroundings, OLD);
    const { code, stdout, stderr } = await reseal(surroundings, `${NEW},${OLD}`);
    expect(code).toBe(1);
    expect(stdout).toContain('resealed 1 sessions under key "new"; 0 already were, 1 are');
    expect(stderr).toContain(`sessiond:   ${lost}\n`);
    expect(stderr).not.toContain(kept);
    expect(await keyIds(store.url)).toEqual(
      new Map([
        ["lost", 1],
        ["new", 1],
      ]),
    );
  });
});

test("a store that is not there is named, and not made", async () => {
  const surroundings = await prepare(`sqlite:${join(directory, "no-such.db")}`);
  expect(await reseal(surroundings, NEW)).toEqual({
    code: 1,
    stdout: "",
    stderr: `sessiond: there is no store sqlite:${join(directory, "no-such.db")}\n`,
  });
  expect(existsSync(join(directory, "no-such.db"))).toBe(false);
});

test("a store that is down fails it, with its address and the cause, and no password", async () => {
  const surroundings = await prepare("redis://:hunter2@127.0.0.1:1");
  expect(await reseal(surroundings, NEW)).toEqual({
    code: 1,
    stdout: "",
    stderr:
      "sessiond: cannot use the store redis://127.0.0.1:1/0\n" +
      "  caused by: connect ECONNREFUSED 127.0.0.1:1\n",
  });
});

interface Surroundings {
  readonly env: Readonly<Record<string, string>>;
  connect(server: ListeningServerProcess): SessionClient;
}

async function prepare(storeUrl: string): Promise<Surroundings> {
  const token = await mintDevelopmentToken({
    dataDir: directory,
    permissions: KNOWN_PERMISSIONS,
    subject: "test",
    ttlMs: 3_600_000,
  });
  return {
    env: { SESSIOND_STORE: storeUrl, SESSIOND_DATA_DIR: directory },
    connect: ({ grpcUrl }) => createSessionClient({ baseUrl: grpcUrl, token, timeoutMs: 20_000 }),
  };
}

const withKeyring = ({ env }: Surroundings, keyring: string) => ({
  env: { ...env, SESSIOND_KEYRING: keyring },
});

function serve(surroundings: Surroundings, keyring: string): Promise<ListeningServerProcess> {
  return spawnServer(withKeyring(surroundings, keyring));
}

function startReseal(surroundings: Surroundings, keyring: string): ServerProcess {
  return spawnSessiond(["keys", "reseal"], withKeyring(surroundings, keyring));
}

async function reseal(surroundings: Surroundings, keyring: string) {
  await using command = startReseal(surroundings, keyring);
  const code = await command.ended;
  return { code, stdout: command.stdout, stderr: command.stderr };
}

/** Stops it while it works. Where it was too quick, everything goes back under the old key first. */
async function stopInTheMiddle(
  surroundings: Surroundings,
  signal: "SIGINT" | "SIGTERM",
  exitCode: number,
): Promise<void> {
  for (let attempt = 0; attempt < STOP_ATTEMPTS; attempt++) {
    await using command = startReseal(surroundings, `${NEW},${OLD}`);
    const isUnderWay = () => expect(command.stderr).toContain("resealing about");
    await vi.waitFor(isUnderWay, { timeout: 20_000, interval: 1 });
    command.kill(signal);
    if ((await command.ended) === exitCode) {
      expect(command.stdout).toBe("");
      expect(command.stderr).toMatch(
        new RegExp(
          `stopped by ${signal} after \\d+ of about \\d+ sessions: .*; run it again to go on`,
        ),
      );
      return;
    }
    await reseal(surroundings, `${OLD},${NEW}`);
  }
  throw new Error("could not be stopped in the middle");
}

interface Created {
  readonly id: string;
  readonly token: string;
  readonly displayName: string;
  readonly isRevoked: boolean;
}

async function createSessions(client: SessionClient): Promise<readonly Created[]> {
  const created: Created[] = [];
  for (let start = 0; start < SESSIONS; start += 100) {
    const indexes = Array.from({ length: 100 }, (_, i) => start + i);
    created.push(
      ...(await Promise.all(
        indexes.map(async (i) => {
          const userId = `user-${Math.floor(i / SESSIONS_PER_USER)}`;
          const displayName = `name ${i}`;
          const { session, token } = await client.createSession({ userId, displayName });
          const isRevoked = i >= SESSIONS - REVOKED;
          if (isRevoked) await client.revokeSession({ token });
          return { id: session.id, token, displayName, isRevoked };
        }),
      )),
    );
  }
  return created;
}

/** Starts and stops a server under this key, to make one session. Answers its id. */
async function createOne(surroundings: Surroundings, keyring: string): Promise<string> {
  await using server = await serve(surroundings, keyring);
  using client = surroundings.connect(server);
  const { session } = await client.createSession({ userId: "ann", displayName: "Ann" });
  server.kill("SIGTERM");
  await server.ended;
  return session.id;
}

/** Keeps updating sessions until it is stopped, through whichever server there is. */
function startLoad(sessions: readonly Created[], client: () => SessionClient) {
  const written = new Map<string, number>();
  const faults: string[] = [];
  let updates = 0;
  let isStopped = false;
  const run = async (worker: number) => {
    for (let n = 1; !isStopped; n++) {
      const session = sessions[(n * UPDATES_AT_A_TIME + worker) % sessions.length];
      if (session === undefined) return;
      try {
        await client().updateSession(session.id, { setData: { n } });
        written.set(session.id, n);
        updates++;
      } catch (error) {
        // A server on its way out: nobody was promised anything.
        written.delete(session.id);
        const reason = error instanceof SessiondError ? error.reason : String(error);
        if (!LEAVING.has(reason)) faults.push(reason);
      }
      await sleep(2);
    }
  };
  const workers = Array.from({ length: UPDATES_AT_A_TIME }, (_, worker) => run(worker));
  return {
    /** The last acknowledged number of each session whose last update was acknowledged. */
    written,
    /** Why updates failed, other than because their server left. */
    faults,
    get updates() {
      return updates;
    },
    stop: async () => {
      isStopped = true;
      await Promise.all(workers);
    },
  };
}

/** How many sessions, ended ones included, are sealed under which key. */
async function keyIds(storeUrl: string): Promise<ReadonlyMap<string, number>> {
  const config = {
    store: parseStoreLocation(storeUrl),
    retentionMs: 600_000,
    durability: "auto",
  } as const;
  const stores = await openStores(config, pino({ level: "silent" }));
  try {
    const counts = new Map<string, number>();
    const query = { showExpired: true, showRevoked: true, order: "asc", limit: 10_000 } as const;
    const { sessions, next } = await stores.sessions.list(query);
    expect(next).toBeUndefined();
    for (const { record } of sessions) {
      const keyId = Buffer.from(record)
        .subarray(2, 2 + (record[1] ?? 0))
        .toString();
      counts.set(keyId, (counts.get(keyId) ?? 0) + 1);
    }
    return counts;
  } finally {
    await stores.close();
  }
}

async function expectAllToVerify(
  client: SessionClient,
  created: readonly Created[],
  written: ReadonlyMap<string, number>,
): Promise<void> {
  for (let start = 0; start < created.length; start += 1_000) {
    const part = created.slice(start, start + 1_000);
    const results = await client.batchVerifySessions(part.map(({ token }) => token));
    for (const [i, { id, displayName, isRevoked }] of part.entries()) {
      const { session, error } = results[i] ?? {};
      if (isRevoked) expect(error).toMatchObject({ reason: "SESSION_NOT_FOUND" });
      else expect(session).toMatchObject({ id, displayName });
      const n = written.get(id);
      if (n !== undefined) expect(session?.data).toEqual({ n });
    }
  }
}
