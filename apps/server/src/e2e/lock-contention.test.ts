import { setImmediate as nextTurn } from "node:timers/promises";
import { createSessionClient } from "@sessiond/client";
import { Keyring } from "@sessiond/core";
import { expect, test } from "vitest";
import { startTestIssuer, startTestServer, type TestServer } from "../testing/test-server.js";
import { STORES } from "../testing/test-stores.js";

const CLIENTS = 200;
const TURNS_EACH = 10;
const TTL_MS = 30_000;
/** Long enough for all the turns of everybody, on a slow machine. */
const WAIT_MS = 120_000;
/**
 * The most turns of others between two of one client. In a perfect queue it is all the
 * others once; servers that take turns let each other's waiters pass.
 */
const MAX_TURNS_BETWEEN = 3 * CLIENTS;

/** Who had the lock, in order. */
interface Turn {
  readonly client: number;
  readonly fencingToken: number;
}

/** Lets everybody take a lock by turns, and notes who had it. Throws where two have it at once. */
async function fight(servers: readonly TestServer[]): Promise<readonly Turn[]> {
  const turns: Turn[] = [];
  let holder: number | undefined;
  const takeTurns = async (client: number) => {
    const server = servers[client % servers.length] as TestServer;
    using sessiond = createSessionClient({
      baseUrl: server.grpcUrl,
      token: server.accessToken,
      timeoutMs: WAIT_MS,
    });
    for (let turn = 0; turn < TURNS_EACH; turn++) {
      const lock = await sessiond.locks.acquire("fought-for", {
        ttlMs: TTL_MS,
        waitTimeoutMs: WAIT_MS,
      });
      if (holder !== undefined) throw new Error(`${client} and ${holder} have the lock`);
      holder = client;
      turns.push({ client, fencingToken: lock.fencingToken });
      await nextTurn();
      holder = undefined;
      await sessiond.locks.release(lock);
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, (_, client) => takeTurns(client)));
  return turns;
}

function expectFairTurns(turns: readonly Turn[]): void {
  expect(turns).toHaveLength(CLIENTS * TURNS_EACH);
  const last = new Map<number, number>();
  for (const [i, { client, fencingToken }] of turns.entries()) {
    const before = turns[i - 1];
    if (before) expect(fencingToken).toBeGreaterThan(before.fencingToken);
    const since = i - (last.get(client) ?? 0);
    expect(since, `turns that client ${client} waited for`).toBeLessThan(MAX_TURNS_BETWEEN);
    last.set(client, i);
  }
}

test.each([
  ...STORES.map((store) => ({ ...store, servers: 1 })),
  ...STORES.filter(({ name }) => name === "Redis").map((store) => ({ ...store, servers: 2 })),
])(
  "two hundred clients of $servers on one $name have a lock by turns, and nobody starves",
  {
    timeout: WAIT_MS,
  },
  async ({ open, servers: count }) => {
    await using opened = new AsyncDisposableStack();
    const { url: store } = opened.use(await open());
    const issuer = opened.adopt(await startTestIssuer(), (started) => started.close());
    const shared = { store, issuer, keyring: Keyring.parse(Keyring.generateKey()) };
    const servers: TestServer[] = [];
    while (servers.length < count) servers.push(opened.use(await startTestServer(shared)));
    expectFairTurns(await fight(servers));
  },
);
