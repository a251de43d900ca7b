import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createSessionClient, type SessionClient, SessiondError } from "@sessiond/client";
import { Keyring, Sessions } from "@sessiond/core";
import { startRedisServer } from "@sessiond/core/testing";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { mintDevelopmentToken } from "../auth/development-keys.js";
import { parseStoreLocation } from "../config/store-location.js";
import { openStores } from "../daemon/open-stores.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import { spawnServer, spawnSessiond } from "../testing/server-process.js";

const USERS = 200;
const SESSIONS_PER_USER = 10;
const SESSIONS = USERS * SESSIONS_PER_USER;
const BATCH_SIZE = 1_000;
const UPDATES_AT_A_TIME = 3;
/** A signal may arrive after the last page, so stopping is tried several times. */
const STOP_ATTEMPTS = 10;
/** The errors of calls whose server stops or whose client closes. */
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
    const { url } = store;
    const created = await createSessions(url, OLD, USERS);
    let server = await serve(url, OLD);
    const load = startLoad(created, () => server.client);
    const replaceServer = async (keyring: string) => {
      const previous = server;
      server = await serve(url, keyring);
      await previous.stop();
    };
    try {
      await replaceServer(`${OLD},${NEW}`);
      // Too early, because the server still seals under the old key. It does no harm.
      await stopInTheMiddle(url);
      await replaceServer(`${NEW},${OLD}`);
      const { code, stdout, stderr } = await reseal(url, `${NEW},${OLD}`);
      expect({ code, stderr }).toMatchObject({ code: 0 });
      expect(stdout).toMatch(
        /^resealed \d+ sessions under key "new"; \d+ already were, 0 are unreadable\n$/,
      );
    } finally {
      await load.stop();
    }
    expect(load.written.size).toBeGreaterThan(0);
    expect(load.faults).toEqual([]);

    // The count includes the revoked sessions.
    const again = await reseal(url, `${NEW},${OLD}`);
    expect(again.stdout).toContain(`resealed 0 sessions under key "new"; ${SESSIONS} already were`);
    await replaceServer(NEW);
    await expectAllToVerify(server.client, created, load.written);
    await server.stop();
  });

  test("lists what no key opens, leaves it as it is, and fails", async () => {
    await using store = await open();
    const lost = await createSessions(store.url, Keyring.generateKey("lost"), 1);
    const kept = await createSessions(store.url, OLD, 1);
    for (const counts of ["resealed 10 …; 0 already were", "resealed 0 …; 10 already were"]) {
      const { code, stdout, stderr } = await reseal(store.url, `${NEW},${OLD}`);
      expect(code).toBe(1);
      const summary = counts.replace("…", 'sessions under key "new"');
      expect(stdout).toBe(`${summary}, 10 are unreadable\n`);
      for (const { id } of lost) expect(stderr).toContain(`sessiond:   ${id}\n`);
      for (const { id } of kept) expect(stderr).not.toContain(id);
    }
  });
});

test("a store that does not exist is named, and not created", async () => {
  const path = join(directory, "no-such.db");
  expect(await reseal(`sqlite:${path}`, NEW)).toEqual({
    code: 1,
    stdout: "",
    stderr: `sessiond: there is no store sqlite:${path}\n`,
  });
  expect(existsSync(path)).toBe(false);
});

test("a store that is down fails it, with its address and the cause, and no password", async () => {
  expect(await reseal("redis://:hunter2@127.0.0.1:1", NEW)).toEqual({
    code: 1,
    stdout: "",
    stderr:
      "sessiond: cannot use the store redis://127.0.0.1:1/0\n" +
      "  caused by: connect ECONNREFUSED 127.0.0.1:1\n",
  });
});

function environment(storeUrl: string, keyring: string) {
  return {
    env: {
      SESSIOND_STORE: storeUrl,
      SESSIOND_DATA_DIR: directory,
      SESSIOND_KEYRING: keyring,
    },
  };
}

async function serve(storeUrl: string, keyring: string) {
  const server = await spawnServer({ flags: ["--dev"], ...environment(storeUrl, keyring) });
  onTestFinished(() => server[Symbol.asyncDispose]());
  const token = await mintDevelopmentToken({
    dataDir: directory,
    permissions: KNOWN_PERMISSIONS,
    subject: "test",
    ttlMs: 3_600_000,
  });
  const client = createSessionClient({ baseUrl: server.grpcUrl, token, timeoutMs: 20_000 });
  const stop = async () => {
    server.kill("SIGTERM");
    expect(await server.ended).toBe(0);
    client.close();
  };
  return { client, stop };
}

async function reseal(storeUrl: string, keyring: string) {
  const command = spawnSessiond(["keys", "reseal"], environment(storeUrl, keyring));
  const code = await command.ended;
  return { code, stdout: command.stdout, stderr: command.stderr };
}

/** Stops resealing before its end. After an attempt that was too late, reseals under the old key. */
async function stopInTheMiddle(storeUrl: string): Promise<void> {
  for (let attempt = 0; attempt < STOP_ATTEMPTS; attempt++) {
    await using command = spawnSessiond(["keys", "reseal"], environment(storeUrl, `${NEW},${OLD}`));
    const isUnderWay = () => expect(command.stderr).toContain("resealing about");
    await vi.waitFor(isUnderWay, { timeout: 20_000, interval: 1 });
    command.kill("SIGTERM");
    if ((await command.ended) === 143) {
      expect(command.stdout).toBe("");
      expect(command.stderr).toMatch(
        /stopped by SIGTERM after \d+ of about \d+ sessions: .*; run it again to go on/,
      );
      return;
    }
    await reseal(storeUrl, `${OLD},${NEW}`);
  }
  throw new Error("could not be stopped in the middle");
}

interface Created {
  readonly id: string;
  readonly token: string;
  readonly displayName: string;
  readonly isRevoked: boolean;
}

function openAt(storeUrl: string) {
  const store = parseStoreLocation(storeUrl);
  const config = {
    store,
    retentionMs: 600_000,
    durability: "auto",
    keyPrefix: "sessiond:",
  } as const;
  return openStores(config, pino({ level: "silent" }));
}

/** Creates ten sessions for each user. The first of each user's is revoked. */
async function createSessions(
  storeUrl: string,
  key: string,
  users: number,
): Promise<readonly Created[]> {
  const stores = await openAt(storeUrl);
  const keyring = Keyring.parse(key);
  const sessions = new Sessions({ store: stores.sessions, keyring });
  const createForUser = async (user: number) => {
    const created: Created[] = [];
    for (let n = 0; n < SESSIONS_PER_USER; n++) {
      const [userId, displayName] = [`${keyring.activeKeyId}-${user}`, `name ${n}`];
      const { session, token } = await sessions.create({ userId, displayName });
      created.push({ id: session.id, token, displayName, isRevoked: n === 0 });
      if (n === 0) await sessions.revoke({ token });
    }
    return created;
  };
  const created = await Promise.all(Array.from({ length: users }, (_, i) => createForUser(i)));
  await stores.close();
  return created.flat();
}

/** Keeps updating the sessions of a few users until it is stopped. */
function startLoad(created: readonly Created[], client: () => SessionClient) {
  // Their number is a multiple of the workers', so no two workers update the same session.
  const sessions = created.slice(0, 60).filter(({ isRevoked }) => !isRevoked);
  /** The last number of each session whose last update was acknowledged. */
  const written = new Map<string, number>();
  /** The errors of updates, except that their server left. */
  const faults: string[] = [];
  let isStopped = false;
  const run = async (worker: number) => {
    for (let n = worker; !isStopped; n += UPDATES_AT_A_TIME) {
      const { id } = sessions[n % sessions.length] as Created;
      try {
        await client().updateSession(id, { setData: { n } });
        written.set(id, n);
      } catch (error) {
        // Without an acknowledgement, either number is right.
        written.delete(id);
        const reason = error instanceof SessiondError ? error.reason : String(error);
        if (!LEAVING.has(reason)) faults.push(reason);
      }
      await sleep(2);
    }
  };
  const workers = Array.from({ length: UPDATES_AT_A_TIME }, (_, worker) => run(worker));
  const stop = async () => {
    isStopped = true;
    await Promise.all(workers);
  };
  return { written, faults, stop };
}

async function expectAllToVerify(
  client: SessionClient,
  created: readonly Created[],
  written: ReadonlyMap<string, number>,
): Promise<void> {
  for (let start = 0; start < created.length; start += BATCH_SIZE) {
    const batch = created.slice(start, start + BATCH_SIZE);
    const results = await client.batchVerifySessions(batch.map(({ token }) => token));
    for (const [i, { id, displayName, isRevoked }] of batch.entries()) {
      const { session, error } = results[i] ?? {};
      if (isRevoked) expect(error).toMatchObject({ reason: "SESSION_NOT_FOUND" });
      else expect(session).toMatchObject({ id, displayName });
      const n = written.get(id);
      if (n !== undefined) expect(session?.data).toEqual({ n });
    }
  }
}
