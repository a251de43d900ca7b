import { afterEach, beforeEach, expect } from "vitest";
import { SqliteSessionStore } from "../sqlite/index.js";
import { FakeClock } from "../testing/contract/fake-clock.js";
import type { CreateSession } from "./create-request.js";
import { Keyring } from "./keyring.js";
import type { Session } from "./session.js";
import type { SessionPolicy } from "./session-policy.js";
import { formatSessionToken, generateSecret, parseSessionToken } from "./session-token.js";
import { Sessions } from "./sessions.js";

export const MINUTE_MS = 60_000;
export const HOUR_MS = 60 * MINUTE_MS;

/** What every call answers that finds no session, whatever the cause. */
export const NOT_FOUND = {
  reason: "SESSION_NOT_FOUND",
  message: "session not found",
  metadata: {},
};

export let clock: FakeClock;
export let store: SqliteSessionStore;
/** The one key of the keyring, named k1. */
export let key: string;
export let keyring: Keyring;
export let sessions: Sessions;

/** Gives each test of a file sessions of its own, in memory. */
export function useSessions(): void {
  beforeEach(async () => {
    clock = new FakeClock();
    store = await SqliteSessionStore.open({ path: ":memory:", now: clock.now });
    key = Keyring.generateKey("k1");
    keyring = Keyring.parse(key);
    sessions = new Sessions({ store, keyring });
  });
  afterEach(() => store.close());
}

/** Sessions on the same store with another policy. */
export function withPolicy(policy: Partial<SessionPolicy>): Sessions {
  return new Sessions({ store, keyring, policy });
}

/** Sessions on the same store with these keys. */
export function withKeys(...keys: readonly string[]): Sessions {
  return new Sessions({ store, keyring: Keyring.parse(keys.join()) });
}

export function create(input: Partial<CreateSession> = {}) {
  return sessions.create({ userId: "ann", ...input });
}

/** Creates a session whose record is unreadable, as losing its key would make it. */
export function createUnreadable() {
  return withKeys(Keyring.generateKey("lost")).create({ userId: "ann" });
}

/** The refusal of a faulty field. */
export function invalid(field: string) {
  return { reason: "INVALID_ARGUMENT", metadata: { field } };
}

/** Expects a call to fail for a reason, or as told. */
export async function refused(call: Promise<unknown>, failure: string | object): Promise<void> {
  const expected = typeof failure === "string" ? { reason: failure } : failure;
  await expect(call).rejects.toMatchObject(expected);
}

/** A token for the same session, with a secret that is not the session's. */
export function forged(token: string): string {
  const parsed = parseSessionToken(token);
  if (parsed === undefined) throw new Error("expected a token");
  return formatSessionToken({ ...parsed, secret: generateSecret() });
}

/** The sealed record of an active session. */
export async function recordOf(id: string): Promise<Uint8Array> {
  const active = { showExpired: false, showRevoked: false, order: "asc", limit: 100 } as const;
  const page = await store.list(active);
  const record = page.sessions.find((session) => session.id === id)?.record;
  if (record === undefined) throw new Error(`there is no session ${id}`);
  return record;
}

export function idsOf(found: readonly Session[]): string[] {
  return found.map(({ id }) => id);
}
