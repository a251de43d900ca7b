import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { SessiondError } from "../../../errors.js";
import {
  type Creation,
  EVICTION_REASON,
  type NewSession,
  type OnceOnly,
  type RepeatedCreation,
  type SessionLimit,
  type SessionStore,
  type StoredSession,
} from "../../../sessions/session-store.js";
import {
  comparable,
  type EventFacts,
  hex,
  idsOf,
  keyOf,
  newSession,
  storedSession,
  sumOfSweeps,
} from "./fixtures.js";
import type { Model, ModelRequest } from "./model.js";
import type { SessionStoreContext } from "./session-store-check.js";

export const USERS = ["ann", "bob"];
const CHOSEN_IDS = ["jti-0", "jti-1", "jti-2"];
const REQUEST_KEYS = ["r0", "r1", "r2"];
const MAX_SESSIONS_PER_USER = 3;
/** What the short deadlines of sessions are within. */
const SHORT_MS = 300;
/** A multiple of the retention, so that what is as long ends far from any retention's end. */
const LONG_IN_RETENTIONS = 10;
/** Longer than a run takes in real time, by which a store may reclaim requests; over within a retention. */
const KEPT_FOR_MS = 60_000;
/** Longer than any run takes by the store's clock. */
const FOREVER_IN_RETENTIONS = 1_000;

const user = fc.integer({ min: 0, max: USERS.length - 1 });
/** A step may concern the session created this far back: some of them have ended. */
const back = fc.oneof(fc.nat({ max: 2 }), fc.nat({ max: 9 }));
/** A replaced token is most often the newest one. */
const nth = fc.oneof(fc.constant(0), fc.nat({ max: 3 }));
/** A value, or undefined, this often in ten. */
const orUndefined = <T>(timesInTen: number, arbitrary: fc.Arbitrary<T>) =>
  fc.oneof(
    { weight: timesInTen, arbitrary: fc.constant(undefined) },
    { weight: 10 - timesInTen, arbitrary },
  );
/** With whatever is undefined long, or generated. */
const creating = {
  user,
  idleTimeoutMs: orUndefined(3, fc.integer({ min: 1, max: 100 })),
  lifetimeMs: orUndefined(4, fc.integer({ min: 1, max: SHORT_MS })),
  chosenId: orUndefined(7, fc.constantFrom(...CHOSEN_IDS)),
  policy: fc.constantFrom("evict_oldest" as const, "evict_oldest" as const, "reject" as const),
};
const request = { key: fc.constantFrom(...REQUEST_KEYS), isKeptForever: fc.boolean() };
/** One of some steps, with its arguments, this often in forty. */
const steps = <Op extends string, Args extends object>(
  weight: number,
  ops: readonly Op[],
  args: { [Name in keyof Args]: fc.Arbitrary<Args[Name]> },
) => {
  const op = fc.constantFrom(...ops);
  const arbitrary = fc.tuple(op, fc.record<Args>(args)).map(([op, rest]) => ({ op, ...rest }));
  return { weight, arbitrary };
};
/** Any step. */
export const step = fc.oneof(
  steps(8, ["create"], creating),
  steps(6, ["createOnce"], { ...creating, ...request }),
  steps(5, ["touch"], { back }),
  steps(3, ["replaceRecord"], { back }),
  steps(3, ["revoke"], { back, user: orUndefined(5, user) }),
  steps(4, ["rotateToken"], {
    back,
    graceMs: orUndefined(4, fc.integer({ min: 1, max: SHORT_MS })),
  }),
  steps(6, ["touchByReplaced", "reportReuse"], { back, nth }),
  steps(3, ["reseal"], { back, hasRecord: fc.boolean() }),
  steps(1, ["revokeUser"], { user, exceptBack: orUndefined(5, back) }),
  steps(8, ["wait"], { ms: fc.integer({ min: 1, max: 30 }) }),
  steps(2, ["sweep", "outlastRetention"], {}),
);
export type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** The model of a namespace, and what a reader of its log has read. */
export interface Modelled {
  readonly model: Model;
  /** Reads on. The reader may be slow, but never lets the retention pass by. */
  readonly read: () => Promise<readonly EventFacts[]>;
}

/** One run, as a step in one namespace sees it. */
export interface Run extends Modelled {
  readonly context: SessionStoreContext;
  /** The namespace at the server that this step goes through. */
  readonly store: SessionStore;
  /** All namespaces: a sweep is of all of them. */
  readonly all: readonly Modelled[];
  /** What all sweeps so far have counted. */
  readonly sweeps: { expired: number };
}

/** Takes a step in the store and in the model, and compares the answers. */
export async function take(run: Run, step: Step): Promise<void> {
  const { store, model, context } = run;
  switch (step.op) {
    case "wait":
      return context.clock.advance(step.ms);
    case "sweep": {
      // The retention of whatever has ended was outlasted, and swept after, or is not over.
      const { expired, reclaimed, healed } = await store.sweep(2);
      run.sweeps.expired += expired;
      return assert.deepEqual({ reclaimed, healed }, { reclaimed: 0, healed: 0 });
    }
    case "outlastRetention":
      return outlastRetention(run);
    case "revokeUser": {
      const userId = USERS[step.user] ?? "";
      const except = step.exceptBack === undefined ? undefined : nthLast(model, step.exceptBack);
      const active = model.active(userId);
      const isRefused = except !== undefined && !active.includes(except);
      const revoked = isRefused ? [] : active.filter((session) => session !== except);
      const answer = await store.revokeUser(userId, "all", except?.id);
      assert.equal(answer, isRefused ? undefined : revoked.length);
      for (const session of revoked) model.revoke(session, "all");
      return;
    }
    case "create":
    case "createOnce":
      return create(run, step);
    default: {
      const session = nthLast(model, step.back);
      if (session) await changeOne(run, step, session);
    }
  }
}

function nthLast(model: Model, back: number): StoredSession | undefined {
  return model.sessions.at(-1 - back);
}

/** Lets what had ended before be over for good, and sweeps it away. */
async function outlastRetention({ context, store, all, sweeps }: Run): Promise<void> {
  const readAll = () => Promise.all(all.map(({ read }) => read()));
  // In two steps, so that the reader is not away for as long as the retention.
  for (let half = 0; half < 2; half++) {
    await readAll();
    context.clock.advance(context.retentionMs / 2 + SHORT_MS);
  }
  await readAll();
  const removed = all.map(({ model }) => model.sweep(context.retentionMs));
  const sum = await sumOfSweeps(store, 3);
  sweeps.expired += sum.expired;
  assert.equal(
    sum.reclaimed,
    removed.reduce((sum, count) => sum + count, 0),
  );
}

async function create(run: Run, step: Extract<Step, { policy: unknown }>): Promise<void> {
  const { store, model, context } = run;
  const longMs = context.retentionMs * LONG_IN_RETENTIONS;
  const given = newSession({
    userId: USERS[step.user] ?? "",
    idleTimeoutMs: step.idleTimeoutMs ?? longMs,
    lifetimeMs: step.lifetimeMs ?? longMs,
    ...(step.chosenId !== undefined && { id: step.chosenId }),
  });
  const limit = { maxSessionsPerUser: MAX_SESSIONS_PER_USER, policy: step.policy };
  if (step.op === "create") {
    await compareCreation(model, given, limit, store.create(given, limit));
    return;
  }
  const once: OnceOnly = {
    key: step.key,
    record: randomBytes(16),
    keptForMs: step.isKeptForever ? context.retentionMs * FOREVER_IN_RETENTIONS : KEPT_FOR_MS,
  };
  const answer = store.createOnce(once, given, limit);
  const earlier = model.request(step.key);
  if (earlier !== undefined) return compareRepetition(model, earlier, given, answer);
  const creation = await compareCreation(model, given, limit, answer);
  if (creation === undefined) return;
  model.requests.set(step.key, {
    userId: given.userId,
    record: once.record,
    sessionId: given.key.id,
    createTimeMs: creation.session.createTimeMs,
    evictedIds: creation.evictedIds,
    expireTimeMs: context.clock.now() + once.keptForMs,
  });
}

/** Compares what came of creating a session with what must. Answers what the store did. */
async function compareCreation(
  model: Model,
  given: NewSession,
  limit: SessionLimit,
  answer: Promise<Creation | RepeatedCreation>,
): Promise<Creation | undefined> {
  const active = model.active(given.userId);
  const tooMany = Math.max(0, active.length + 1 - limit.maxSessionsPerUser);
  const isTaken = model.sessions.some(({ id }) => id === given.key.id);
  const isRefused = isTaken || (tooMany > 0 && limit.policy === "reject");
  const creation = await orReason(answer);
  if (isRefused) {
    assert.equal(creation, isTaken ? "SESSION_ALREADY_EXISTS" : "SESSION_LIMIT_REACHED");
    return undefined;
  }
  assert.ok(typeof creation === "object" && !("repeated" in creation), `answered ${creation}`);
  const evicted = active.slice(0, tooMany);
  assert.deepEqual([...creation.evictedIds], idsOf(evicted));
  for (const old of evicted) model.revoke(old, EVICTION_REASON, "evicted");
  model.add(storedSession(creation.session, given));
  return creation;
}

/** Compares what a repetition was told with what must be known of the first call. */
async function compareRepetition(
  model: Model,
  earlier: ModelRequest,
  given: NewSession,
  answer: Promise<Creation | RepeatedCreation>,
): Promise<void> {
  const repetition = await orReason(answer);
  if (given.userId !== earlier.userId) return assert.equal(repetition, "REQUEST_ID_REUSED");
  assert.ok(typeof repetition === "object" && "repeated" in repetition, `answered ${repetition}`);
  assert.equal(hex(repetition.repeated), hex(earlier.record));
  assert.deepEqual([...repetition.evictedIds], [...earlier.evictedIds]);
  const session = model.sessions.find(
    ({ id, createTimeMs }) => id === earlier.sessionId && createTimeMs === earlier.createTimeMs,
  );
  assert.deepEqual(
    repetition.session && comparable(repetition.session),
    session && comparable(session),
  );
}

/** What a call answers, or the reason that it was refused for. */
async function orReason<T>(answer: Promise<T>): Promise<T | string> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof SessiondError) return error.reason;
    throw error;
  }
}

async function changeOne(
  { store, model, context }: Run,
  step: Extract<Step, { back: number }>,
  session: StoredSession,
): Promise<void> {
  const active = model.isActive(session);
  const key = keyOf(session);
  const bytes = randomBytes(32);
  switch (step.op) {
    case "touch":
      assert.equal((await store.touch(key)) !== undefined, active);
      if (active) model.change(session.id, model.activity(session));
      return;
    case "replaceRecord":
      assert.equal(
        typeof (await store.replaceRecord(key, session.version, bytes)) === "object",
        active,
      );
      if (active) model.replaceRecord(session, bytes);
      return;
    case "reseal": {
      const record = step.hasRecord ? session.record : randomBytes(8);
      assert.equal(await store.reseal(key, record, bytes), step.hasRecord);
      if (step.hasRecord) model.change(session.id, { record: bytes });
      return;
    }
    case "rotateToken": {
      const { graceMs } = step;
      const rotated = await store.rotateToken(key, session.tokenHash, bytes, graceMs);
      assert.equal(rotated !== undefined, active);
      if (active) model.rotate(session, bytes, graceMs);
      return;
    }
    case "touchByReplaced": {
      const token = model.replacedToken(session, step.nth);
      if (token === undefined) return;
      const isProof = active && context.clock.now() < token.graceEndTimeMs;
      assert.equal((await store.touch(key, token.hash)) !== undefined, isProof);
      if (isProof) model.change(session.id, model.activity(session));
      return;
    }
    case "reportReuse": {
      const token = model.replacedToken(session, step.nth);
      if (token === undefined) return;
      const isRevoked = await store.reportReuse(key, token.hash, true);
      return assert.equal(isRevoked, model.reportReuse(session, token));
    }
    case "revoke":
      return revoke({ store, model }, session, step.user);
  }
}

/** Revokes a session for a user, who may be another one, or for anybody. */
async function revoke(
  { store, model }: Pick<Run, "store" | "model">,
  session: StoredSession,
  user?: number,
): Promise<void> {
  const userId = user === undefined ? undefined : USERS[user];
  const isRevoked = model.isActive(session) && (userId ?? session.userId) === session.userId;
  assert.equal(await store.revoke(keyOf(session), "one", undefined, userId), isRevoked);
  if (isRevoked) model.revoke(session, "one");
}
