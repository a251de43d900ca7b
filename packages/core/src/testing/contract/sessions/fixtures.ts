import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { type ErrorReason, SessiondError } from "../../../errors.js";
import { generateSessionId, PARTITIONS, partitionOfUser } from "../../../sessions/session-id.js";
import type {
  ListCursor,
  ListQuery,
  NewSession,
  SessionKey,
  SessionLimit,
  SessionStore,
  StoredFacts,
  StoredSession,
  SweepResult,
} from "../../../sessions/session-store.js";
import type { EventCursor, SessionEvent, SessionEventType } from "../../../watch/session-event.js";

/** A limit under which the oldest session makes room for one too many. */
export function evictBeyond(maxSessionsPerUser: number): SessionLimit {
  return { maxSessionsPerUser, policy: "evict_oldest" };
}

/** A limit under which one session too many is refused. */
export function rejectBeyond(maxSessionsPerUser: number): SessionLimit {
  return { maxSessionsPerUser, policy: "reject" };
}

/** A limit that no check reaches unless it wants to. */
export const NO_LIMIT = rejectBeyond(1_000_000);

/** The idle timeout of sessions whose timeouts do not matter. */
export const IDLE_TIMEOUT_MS = 60_000;
/** The lifetime of sessions whose timeouts do not matter. */
export const LIFETIME_MS = 600_000;

/** What a session is named by. */
interface SessionIdentity {
  readonly id: string;
  readonly userId: string;
}

/** What a check may say of a new session; the rest is random or does not matter. */
export interface SessionSpec extends Partial<Omit<NewSession, "key">> {
  readonly id?: string;
}

/** A session to create. */
export function newSession({ id, userId = "user", ...rest }: SessionSpec = {}): NewSession {
  const partition = partitionOfUser(userId);
  return {
    key: { partition, id: id ?? generateSessionId(partition) },
    userId,
    record: randomBytes(64),
    tokenHash: randomBytes(32),
    idleTimeoutMs: IDLE_TIMEOUT_MS,
    lifetimeMs: LIFETIME_MS,
    ...rest,
  };
}

/** Creates a session and returns it as the store answered. */
export async function addSession(
  store: SessionStore,
  spec: SessionSpec = {},
  limit: SessionLimit = NO_LIMIT,
): Promise<StoredSession> {
  const session = newSession(spec);
  const created = await store.create(session, limit);
  return storedSession(created.session, session);
}

/** A session as it is stored after its creation. */
export function storedSession(
  created: StoredFacts,
  { record, tokenHash }: Pick<NewSession, "record" | "tokenHash">,
): StoredSession {
  return { ...created, record, tokenHash, replacedTokens: new Uint8Array() };
}

/** Creates `count` sessions at once. */
export function addSessions(
  store: SessionStore,
  count: number,
  spec: SessionSpec = {},
): Promise<StoredSession[]> {
  return Promise.all(Array.from({ length: count }, () => addSession(store, spec)));
}

/** Makes `count` calls at once, through two servers by turns. */
export function race<T>(
  { store, peer }: { readonly store: SessionStore; readonly peer: SessionStore },
  count: number,
  call: (from: SessionStore, i: number) => Promise<T>,
): Promise<T[]> {
  return Promise.all(Array.from({ length: count }, (_, i) => call(i % 2 ? store : peer, i)));
}

/** A session's partition that is not its own. */
export function elsewhere({ id, userId }: SessionIdentity): SessionKey {
  const own = partitionOfUser(userId);
  return { partition: PARTITIONS.find((partition) => partition !== own) ?? "", id };
}

/** Another user of the same partition. */
export function neighbourOf(userId: string): string {
  const partition = partitionOfUser(userId);
  for (let n = 0; ; n++) {
    if (partitionOfUser(`${userId}-${n}`) === partition) return `${userId}-${n}`;
  }
}

/** Token hashes, or records, that are not the given one, however little they differ. */
export function othersThan(bytes: Uint8Array): Uint8Array[] {
  const last = bytes.length - 1;
  const nearly = bytes.with(last, (bytes[last] ?? 0) ^ 1);
  return [nearly, bytes.subarray(0, last), new Uint8Array(), randomBytes(bytes.length)];
}

/** Where a session is kept. */
export function keyOf(session: SessionIdentity): SessionKey {
  return { partition: partitionOfUser(session.userId), id: session.id };
}

/** The ids of sessions, in their order. */
export function idsOf(sessions: readonly { readonly id: string }[]): string[] {
  return sessions.map(({ id }) => id);
}

/** By creation time, then by id. */
export function byCreation(a: ListCursor, b: ListCursor): number {
  return a.createTimeMs - b.createTimeMs || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}

/** A session as a store answers it: some answers leave out what the caller brought. */
export type AnsweredSession = StoredFacts & {
  readonly record?: Uint8Array | undefined;
  readonly tokenHash?: Uint8Array | undefined;
  readonly replacedTokens?: Uint8Array | undefined;
};

/**
 * A session without the time of reading and its replaced tokens, and with readable bytes, so that two
 * reads compare equal.
 */
export function comparable(session: AnsweredSession): object {
  const { record, tokenHash, readTimeMs: _, replacedTokens: _replaced, ...facts } = session;
  return {
    ...facts,
    ...(record && { record: hex(record) }),
    ...(tokenHash && { tokenHash: hex(tokenHash) }),
  };
}

/** Asserts that two sessions are the same in what both tell, but for when they were read. */
export function assertSame(actual: AnsweredSession | undefined, expected: AnsweredSession): void {
  assert.ok(actual, "expected a session");
  const { record, tokenHash } = { ...expected, ...actual };
  const brought = { record, tokenHash };
  assert.deepEqual(comparable({ ...brought, ...actual }), comparable({ ...brought, ...expected }));
}

/** Bytes as a text to compare. */
export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("hex");
}

/** Asserts that a promise is rejected with an error of this reason. */
export async function assertRefused(reason: ErrorReason, promise: Promise<unknown>): Promise<void> {
  const outcome = await promise.then(
    () => "it was allowed",
    (error: unknown) => error,
  );
  assert.ok(outcome instanceof SessiondError, `expected ${reason}, but ${outcome}`);
  assert.equal(outcome.reason, reason);
}

/** What to list, in pages of a thousand unless `limit` says otherwise. */
export interface Listing extends Omit<ListQuery, "limit"> {
  readonly limit?: number;
}

/** All sessions there are, ended ones too. */
export const EVERYTHING: Listing = {
  showExpired: true,
  showRevoked: true,
  order: "asc",
};

/** The active sessions. */
export const ACTIVE: Listing = {
  showExpired: false,
  showRevoked: false,
  order: "asc",
};

/** More pages than any check needs; a list or a log that goes on for longer never ends. */
const MAX_PAGES = 2_000;

/** Walks through all pages of a list, calling `between` after each. */
export async function listAll(
  store: SessionStore,
  query: Listing,
  between: (page: readonly StoredSession[]) => Promise<void> = async () => {},
): Promise<StoredSession[]> {
  const limit = query.limit ?? 1_000;
  const sessions: StoredSession[] = [];
  let after = query.after;
  for (let pages = 0; pages < MAX_PAGES; pages++) {
    const page = await store.list({ ...query, limit, ...(after && { after }) });
    assert.ok(page.sessions.length <= limit, `a page of ${page.sessions.length}, over ${limit}`);
    sessions.push(...page.sessions);
    after = page.next;
    if (after === undefined) return sessions;
    await between(page.sessions);
  }
  throw new assert.AssertionError({ message: `the list goes on after ${MAX_PAGES} pages` });
}

/** A session as the store has it, in whatever state. */
export async function inspect(
  store: SessionStore,
  session: SessionIdentity,
): Promise<StoredSession | undefined> {
  const all = await listAll(store, { ...EVERYTHING, userId: session.userId });
  return all.find(({ id }) => id === session.id);
}

/** Asserts that a session is as it was, whatever state that is. */
export async function assertUntouched(store: SessionStore, before: StoredSession): Promise<void> {
  assertSame(await inspect(store, before), before);
}

/** Sweeps until nothing is left to do. Answers how many sessions were removed. */
export async function sweepAll(store: SessionStore, limit = 1_000): Promise<number> {
  return (await sumOfSweeps(store, limit)).reclaimed;
}

/** Sweeps until nothing is left to do. Answers the sums of what the sweeps answered. */
export async function sumOfSweeps(
  store: SessionStore,
  limit = 1_000,
): Promise<Pick<SweepResult, "expired" | "reclaimed">> {
  const sum = { expired: 0, reclaimed: 0 };
  for (let sweeps = 0; sweeps < 5_000; sweeps++) {
    const result = await store.sweep(limit);
    sum.expired += result.expired;
    sum.reclaimed += result.reclaimed;
    if (!result.more) return sum;
  }
  throw new assert.AssertionError({ message: "sweeping never comes to an end" });
}

/** What an event tells of a session, without its position in the log. */
export interface EventFacts {
  readonly type: SessionEventType;
  readonly sessionId: string;
  readonly userId: string;
  readonly version: number;
  readonly timeMs: number;
  readonly reason: string | undefined;
  readonly changedBy: string;
}

/** An event without its position, to compare. */
export function factsOf(event: SessionEvent): EventFacts {
  const { type, sessionId, userId, version, timeMs, reason, changedBy } = event;
  return { type, sessionId, userId, version, timeMs, reason, changedBy };
}

/** The event that a change of a session makes, without an author. */
export function eventOf(
  type: SessionEventType,
  { id, userId }: Pick<StoredSession, "id" | "userId">,
  version: number,
  timeMs: number,
  reason?: string,
): EventFacts {
  return { type, sessionId: id, userId, version, timeMs, reason, changedBy: "" };
}

/** The events from a cursor to the end of the log. */
export interface EventsToEnd {
  readonly events: readonly SessionEvent[];
  /** The position after them. */
  readonly cursor: EventCursor;
}

/** Reads the log from a cursor to its end, which must not be lost. */
export async function readToEnd(
  store: SessionStore,
  from: EventCursor,
  limit = 1_000,
): Promise<EventsToEnd> {
  const events: SessionEvent[] = [];
  let cursor = from;
  for (let pages = 0; pages < MAX_PAGES; pages++) {
    const page = await store.events.read(cursor, limit);
    assert.ok(page !== "lost", "nothing may be lost here");
    events.push(...page.events);
    cursor = page.cursor;
    if (page.isComplete) return { events, cursor };
  }
  throw new assert.AssertionError({ message: `the log goes on after ${MAX_PAGES} pages` });
}

/** Follows the log of a store from where it ends now; each call answers what is new. */
export async function followEvents(store: SessionStore): Promise<() => Promise<EventFacts[]>> {
  let cursor = await store.events.end();
  return async () => {
    const news = await readToEnd(store, cursor);
    cursor = news.cursor;
    return news.events.map(factsOf);
  };
}

/** The events of each session, in their order. */
export function bySession<Event extends { readonly sessionId: string }>(
  events: readonly Event[],
): Map<string, Event[]> {
  return Map.groupBy(events, ({ sessionId }) => sessionId);
}
