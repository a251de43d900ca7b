import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, onTestFinished, test } from "vitest";
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

/** A server on the file; closed at the latest after the test. */
async function open() {
  const store = await SqliteSessionStore.open({ path });
  onTestFinished(() => store.close());
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

test("a watch that is cut and resumed again and again tells each of 10,000 changes once and in order", async () => {
  const [{ sessions }, { sessions: others }] = [await open(), await open()];
  const versions = new Map<string, number>();
  let seen = 0;
  let watches = 0;
  function* pieces() {
    for (;;) yield 1 + (watches++ % 7);
  }
  const watching = watchInPieces(sessions, pieces(), (message) => {
    expect(message.kind).not.toBe("reset");
    if (message.kind !== "events") return "more";
    for (const { sessionId, version } of message.events) {
      expect(version).toBe((versions.get(sessionId) ?? 0) + 1);
      versions.set(sessionId, version);
      seen++;
    }
    return seen === CHANGES ? "enough" : "more";
  });
  await sleep(50);
  // Half of them by another process, as far as this one's store can tell.
  const done = (changes: number) => changes >= CHANGES / 2;
  await Promise.all([change(sessions, done), change(others, done), watching]);
  expect(seen).toBe(CHANGES);
  expect(versions.size).toBe(2 * SESSIONS);
  expect(watches).toBeGreaterThan(10);
});

test("a watch goes on after a restart, and is told of a loss if the file was made again", async () => {
  const before = await open();
  const { session } = await before.sessions.create({ userId: "ann" });
  const token = await watchInPieces(before.sessions, [1], () => "enough");
  await before.sessions.update(session.id, { displayName: "missed" });
  await before.close();

  const restarted = await open();
  await restarted.sessions.revoke({ sessionId: session.id }, "logout");
  const told: string[] = [];
  const take = (message: WatchMessage) => {
    told.push(
      ...(message.kind === "events" ? message.events.map(({ type }) => type) : [message.kind]),
    );
    return message.kind === "checkpoint" ? "enough" : "more";
  };
  await watchInPieces(restarted.sessions, [Infinity], take, token);
  expect(told.splice(0)).toEqual(["updated", "revoked", "checkpoint"]);
  await restarted.close();
  await rm(path);

  const after = await open();
  await after.sessions.create({ userId: "ann" });
  await watchInPieces(after.sessions, [Infinity], take, token);
  expect(told).toEqual(["reset", "checkpoint"]);
});

test("a change is told at once, whichever of two servers on one file has made it", async () => {
  const [watched, other] = [await open(), await open()];
  const abort = new AbortController();
  const watch = watched.sessions.watch({ signal: abort.signal });
  await watch.next();
  for (const { sessions } of [watched, other, watched, other]) {
    const startMs = performance.now();
    const { session } = await sessions.create({ userId: "ann" });
    let message = (await watch.next()).value;
    while (message.kind === "checkpoint") message = (await watch.next()).value;
    expect(message).toMatchObject({ events: [{ type: "created", sessionId: session.id }] });
    expect(performance.now() - startMs).toBeLessThan(AT_ONCE_MS);
  }
  abort.abort();
});

test("a faulty request for a watch is refused, naming the field", async () => {
  const { sessions } = await open();
  for (const [request, field] of [
    [{ userId: "" }, "user_id"],
    [{ userId: "a".repeat(257) }, "user_id"],
    [{ resumeToken: "nonsense" }, "resume_token"],
  ] as const) {
    const refusal = { reason: "INVALID_ARGUMENT", metadata: { field } };
    await expect(sessions.watch(request).next()).rejects.toMatchObject(refusal);
  }
});
