import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Keyring } from "../sessions/keyring.js";
import { Sessions } from "../sessions/sessions.js";
import { SqliteSessionStore } from "../sqlite/index.js";
import type { WatchMessage } from "./session-watch.js";

const CHANGES = 10_000;
const SESSIONS = 50;
/** What "at once" is on a machine that does much else. */
const AT_ONCE_MS = 250;

const keyring = Keyring.parse(Keyring.generateKey("test"));
let directory: string;
let path: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sessiond-watch-"));
  path = join(directory, "sessions.db");
});
afterEach(() => rm(directory, { recursive: true }));

async function open() {
  const store = await SqliteSessionStore.open({ path });
  const sessions = new Sessions({ store, keyring, policy: { maxSessionsPerUser: SESSIONS } });
  return { sessions, close: () => store.close() };
}

/** Makes sessions, and changes them until there were as many changes as said. */
async function change(sessions: Sessions, isDone: (changes: number) => boolean): Promise<void> {
  const users = Array.from({ length: 5 }, (_, i) => `user-${i}`);
  const created = await Promise.all(
    Array.from({ length: SESSIONS }, (_, i) => sessions.create({ userId: users[i % 5] ?? "" })),
  );
  for (let changes = SESSIONS; !isDone(changes); changes += SESSIONS) {
    await Promise.all(
      created.map(({ session }) => sessions.update(session.id, { displayName: `${changes}` })),
    );
  }
}

/** Takes messages, but some at a time, each time with a watch of its own that resumes. */
async function watchInPieces(
  sessions: Sessions,
  pieces: Iterable<number>,
  take: (message: WatchMessage) => "more" | "enough",
  resumeToken?: string,
): Promise<string | undefined> {
  let token = resumeToken;
  for (const length of pieces) {
    const abort = new AbortController();
    let taken = 0;
    try {
      for await (const message of sessions.watch({ resumeToken: token, signal: abort.signal })) {
        token = message.resumeToken;
        if (take(message) === "enough") return token;
        if (++taken === length) abort.abort();
      }
    } catch (error) {
      if (!abort.signal.aborted) throw error;
    }
  }
  return token;
}

/** 1 to 7 messages, over and over. */
function* lengths(): Generator<number> {
  for (let i = 0; ; i++) yield 1 + (i % 7);
}

test("a watch that is cut and resumed again and again tells each of 10,000 changes once and in order", async () => {
  const { sessions, close } = await open();
  const { sessions: others, close: closeOthers } = await open();
  const versions = new Map<string, number>();
  let seen = 0;
  let watches = 0;
  const watching = watchInPieces(
    sessions,
    (function* () {
      for (const length of lengths()) {
        watches++;
        yield length;
      }
    })(),
    (message) => {
      expect(message.kind).not.toBe("reset");
      if (message.kind !== "events") return "more";
      for (const { sessionId, version } of message.events) {
        expect(version).toBe((versions.get(sessionId) ?? 0) + 1);
        versions.set(sessionId, version);
        seen++;
      }
      return seen === CHANGES ? "enough" : "more";
    },
  );
  await sleep(50);
  // Half of them by another process, as far as this one's store can tell.
  const done = (changes: number) => changes >= CHANGES / 2;
  await Promise.all([change(sessions, done), change(others, done), watching]);
  expect(seen).toBe(CHANGES);
  expect(versions.size).toBe(2 * SESSIONS);
  expect(watches).toBeGreaterThan(10);
  await close();
  await closeOthers();
});

test("a watch goes on without a reset after its server was restarted", async () => {
  const before = await open();
  const { session } = await before.sessions.create({ userId: "ann" });
  const token = await watchInPieces(before.sessions, [1], () => "enough");
  await before.sessions.update(session.id, { displayName: "missed" });
  await before.close();

  const after = await open();
  await after.sessions.revoke({ sessionId: session.id }, "logout");
  const types: string[] = [];
  await watchInPieces(
    after.sessions,
    [Infinity],
    (message) => {
      if (message.kind === "events") types.push(...message.events.map(({ type }) => type));
      else types.push(message.kind);
      return message.kind === "events" ? "more" : "enough";
    },
    token,
  );
  expect(types).toEqual(["updated", "revoked", "checkpoint"]);
  await after.close();
});

test("a watch of a file that was deleted and made anew is told that it has lost events", async () => {
  const before = await open();
  await before.sessions.create({ userId: "ann" });
  const token = await watchInPieces(before.sessions, [1], () => "enough");
  await before.close();
  await rm(path);

  const after = await open();
  await after.sessions.create({ userId: "ann" });
  const kinds: string[] = [];
  const take = ({ kind }: WatchMessage) => (kinds.push(kind) < 2 ? "more" : "enough");
  await watchInPieces(after.sessions, [Infinity], take, token);
  expect(kinds).toEqual(["reset", "checkpoint"]);
  await after.close();
});

test("a change is told at once, whoever of two servers on one file has made it", async () => {
  const [watched, other] = [await open(), await open()];
  const abort = new AbortController();
  const watch = watched.sessions.watch({ signal: abort.signal });
  await watch.next();
  for (const { sessions } of [watched, other, watched, other]) {
    const startMs = performance.now();
    const { session } = await sessions.create({ userId: "ann" });
    for (;;) {
      const { value } = await watch.next();
      if (value.kind !== "events") continue;
      expect(value.events).toMatchObject([{ type: "created", sessionId: session.id }]);
      break;
    }
    expect(performance.now() - startMs).toBeLessThan(AT_ONCE_MS);
  }
  abort.abort();
  await watched.close();
  await other.close();
});

test("what is wrong with a request for a watch is said by name", async () => {
  const { sessions, close } = await open();
  for (const [request, field] of [
    [{ userId: "" }, "user_id"],
    [{ userId: "a".repeat(257) }, "user_id"],
    [{ resumeToken: "nonsense" }, "resume_token"],
  ] as const) {
    await expect(sessions.watch(request).next()).rejects.toMatchObject({
      reason: "INVALID_ARGUMENT",
      metadata: { field },
    });
  }
  await close();
});
