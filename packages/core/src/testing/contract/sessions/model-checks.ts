import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { env } from "node:process";
import fc from "fast-check";
import { SessiondError } from "../../../errors.js";
import {
  REUSE_EVENT_INTERVAL_MS,
  REUSE_REASON,
  REUSE_TOLERANCE_MS,
} from "../../../sessions/replaced-tokens.js";
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
import type { SessionEventType } from "../../../watch/session-event.js";
import {
  ACTIVE,
  byCreation,
  bySession,
  comparable,
  EVERYTHING,
  type EventFacts,
  eventOf,
  factsOf,
  followEvents,
  hex,
  idsOf,
  keyOf,
  listAll,
  newSession,
  readToEnd,
  storedSession,
  sumOfSweeps,
} from "./fixtures.js";
import type { SessionStoreChecks, SessionStoreContext } from "./session-store-check.js";

/**
 * How many sequences of commands are tried, 26 commands long on average. More of them for a night:
 * `SESSIOND_MODEL_RUNS=400` is some 10,000 commands. The only thing here that goes by the environment.
 */
const RUNS = Number(env["SESSIOND_MODEL_RUNS"] ?? 20);
/** How long all runs may take. Ample: one takes a tenth of its part. */
export const MODEL_TIMEOUT_MS = 30_000 + RUNS * 1_500;

/** Everything is called the same in both. */
const NAMESPACES = ["", "shop"];
const USERS = ["ann", "bob"];
const CHOSEN_IDS = ["jti-0", "jti-1", "jti-2"];
const REQUEST_KEYS = ["r0", "r1", "r2"];
/** Comparing everything costs a store of many partitions a multiple of a step. */
const STEPS_BETWEEN_COMPARISONS = 7;
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
const step = fc.oneof(
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
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** What an earlier request did. */
interface ModelRequest {
  readonly userId: string;
  readonly record: Uint8Array;
  readonly sessionId: string;
  readonly createTimeMs: number;
  readonly evictedIds: readonly string[];
  readonly expireTimeMs: number;
}

/** A token that was replaced. */
interface ModelToken {
  readonly hash: Uint8Array;
  readonly replaceTimeMs: number;
  readonly graceEndTimeMs: number;
}

/** What the contract says must be there: a plain list, walked through for every answer. */
class Model {
  sessions: StoredSession[] = [];
  readonly requests = new Map<string, ModelRequest>();
  /** The replaced tokens of each session, newest first. */
  readonly #replaced = new Map<string, readonly ModelToken[]>();
  readonly #reuseEventTimesMs = new Map<string, number>();
  readonly events: EventFacts[] = [];
  #removedExpired = 0;
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  isActive = (session: StoredSession): boolean =>
    session.revokeTimeMs === undefined && this.#now() < session.expireTimeMs;

  active(userId?: string): StoredSession[] {
    return this.sessions
      .filter((session) => this.isActive(session) && (userId ?? session.userId) === session.userId)
      .toSorted(byCreation);
  }

  /** The request with this key that is recognised still. */
  request(key: string): ModelRequest | undefined {
    const request = this.requests.get(key);
    return request && this.#now() < request.expireTimeMs ? request : undefined;
  }

  change(id: string, change: Partial<StoredSession>): void {
    const index = this.sessions.findIndex((session) => session.id === id);
    const session = this.sessions[index];
    if (session) this.sessions[index] = { ...session, ...change };
  }

  log(type: SessionEventType, session: StoredSession, version: number, reason?: string): void {
    this.events.push(eventOf(type, session, version, this.#now(), reason));
  }

  add(session: StoredSession): void {
    this.sessions.push(session);
    this.log("created", session, 1);
  }

  replaceRecord(session: StoredSession, record: Uint8Array): void {
    this.change(session.id, { record, version: session.version + 1 });
    this.log("updated", session, session.version + 1);
  }

  revoke(session: StoredSession, revokeReason: string, type: SessionEventType = "revoked"): void {
    this.change(session.id, {
      revokeTimeMs: this.#now(),
      revokeReason,
      version: session.version + 1,
      tokenHash: new Uint8Array(),
    });
    this.log(type, session, session.version + 1, revokeReason);
  }

  rotate(session: StoredSession, tokenHash: Uint8Array, graceMs = 0): void {
    const now = this.#now();
    const token = { hash: session.tokenHash, replaceTimeMs: now, graceEndTimeMs: now + graceMs };
    const earlier = this.#replacedOf(session).map((one) =>
      graceMs === 0 && now < one.graceEndTimeMs
        ? { ...one, replaceTimeMs: now, graceEndTimeMs: now }
        : one,
    );
    this.#replaced.set(lifeOf(session), [token, ...earlier]);
    this.change(session.id, {
      ...this.activity(session),
      tokenHash,
      version: session.version + 1,
      tokenCreateTimeMs: now,
      ...(graceMs === 0 && { authenticateTimeMs: now }),
    });
    this.log("token_rotated", session, session.version + 1);
  }

  /** Answers whether this revokes the session. */
  reportReuse(session: StoredSession, token: ModelToken): boolean {
    const now = this.#now();
    if (!this.isActive(session) || now < token.graceEndTimeMs) return false;
    const lastMs = this.#reuseEventTimesMs.get(lifeOf(session)) ?? -Infinity;
    const isEventDue = now - lastMs >= REUSE_EVENT_INTERVAL_MS;
    const reported = { ...session, version: session.version + (isEventDue ? 1 : 0) };
    if (isEventDue) {
      this.#reuseEventTimesMs.set(lifeOf(session), now);
      this.change(session.id, reported);
      this.log("token_reused", session, reported.version);
    }
    const isTheft = now - token.replaceTimeMs > REUSE_TOLERANCE_MS;
    if (isTheft) this.revoke(reported, REUSE_REASON);
    return isTheft;
  }

  /** The nth newest of a session's replaced tokens. */
  replacedToken(session: StoredSession, nth: number): ModelToken | undefined {
    return this.#replacedOf(session)[nth];
  }

  #replacedOf(session: StoredSession): readonly ModelToken[] {
    return this.#replaced.get(lifeOf(session)) ?? [];
  }

  activity(session: StoredSession): Partial<StoredSession> {
    const idleDeadlineMs = this.#now() + session.idleTimeoutMs;
    return {
      lastAccessTimeMs: this.#now(),
      expireTimeMs: Math.min(idleDeadlineMs, session.absoluteExpireTimeMs),
    };
  }

  /** Removes what a sweep must remove. Answers how much that is. */
  sweep(retentionMs: number): number {
    const kept = this.sessions.filter(
      ({ revokeTimeMs, expireTimeMs }) =>
        this.#now() < (revokeTimeMs ?? expireTimeMs) + retentionMs,
    );
    const removed = this.sessions.filter((session) => !kept.includes(session));
    this.#removedExpired += removed.filter(this.#isExpired).length;
    this.sessions = kept;
    return removed.length;
  }

  #isExpired = (session: StoredSession): boolean =>
    session.revokeTimeMs === undefined && !this.isActive(session);

  /** How many sessions have expired so far. */
  get expired(): number {
    return this.#removedExpired + this.sessions.filter(this.#isExpired).length;
  }
}

/** Tells a session from an earlier one with the same chosen id. */
function lifeOf({ id, createTimeMs }: StoredSession): string {
  return `${id} ${createTimeMs}`;
}

/** The model of a namespace, and what a reader of its log has read. */
interface Modelled {
  readonly model: Model;
  /** Reads on. The reader may be slow, but never lets the retention pass by. */
  readonly read: () => Promise<readonly EventFacts[]>;
}

/** One run, as a step in one namespace sees it. */
interface Run extends Modelled {
  readonly context: SessionStoreContext;
  /** The namespace at the server that this step goes through. */
  readonly store: SessionStore;
  /** All namespaces: a sweep is of all of them. */
  readonly all: readonly Modelled[];
  /** What all sweeps so far have counted. */
  readonly sweeps: { expired: number };
}

/** Takes a step in the store and in the model, and compares the answers. */
async function take(run: Run, step: Step): Promise<void> {
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

/** Compares all that the store shows with the model. */
async function compare({ store, model, read }: Run): Promise<void> {
  assert.equal(await store.count(), model.active().length);
  for (const userId of USERS) {
    const active = model.active(userId);
    assert.equal(await store.count(userId), active.length);
    assert.deepEqual(idsOf(await listAll(store, { ...ACTIVE, userId })), idsOf(active));
  }
  assert.deepEqual(idsOf(await listAll(store, ACTIVE)), idsOf(model.active()));
  const found = await store.getMany(model.sessions.map(keyOf));
  assert.deepEqual(
    found.map((session) => session !== undefined),
    model.sessions.map(model.isActive),
  );
  const all = await listAll(store, { ...EVERYTHING, limit: 7 });
  assert.deepEqual(all.map(comparable), model.sessions.toSorted(byCreation).map(comparable));
  assert.deepEqual(bySession(await read()), bySession(model.events));
}

/** A namespace of an empty store, its model, and the start of its log. */
async function modelled({ store, peer, clock }: SessionStoreContext, name: string) {
  const views = [store.namespace(name), peer.namespace(name)] as const;
  const model = new Model(clock.now);
  const start = await views[0].events.end();
  const news = await followEvents(views[1]);
  const events: EventFacts[] = [];
  const read = async () => {
    events.push(...(await news()));
    return events;
  };
  return { views, model, start, read };
}

/** Everything together, against models of two namespaces that have nothing to do with each other. */
export const modelChecks: SessionStoreChecks = {
  "through any calls and deadlines the store shows what a plain list would": async (t) => {
    const anywhere = fc.tuple(fc.nat({ max: NAMESPACES.length - 1 }), step);
    const sequences = fc.array(anywhere, { minLength: 10, maxLength: 42, size: "max" });
    const property = fc.asyncProperty(sequences, async (sequence) => {
      const context = await t.openAnother();
      const all = await Promise.all(NAMESPACES.map((name) => modelled(context, name)));
      const sweeps = { expired: 0 };
      for (const [i, [at, step]] of sequence.entries()) {
        const { views, model, read } = all[at] as (typeof all)[number];
        const run = { context, all, sweeps, model, read };
        await take({ ...run, store: views[i % 3 === 0 ? 1 : 0] }, step);
        if (i % STEPS_BETWEEN_COMPARISONS === 0) await compare({ ...run, store: views[0] });
      }
      for (const { views, model, start, read } of all) {
        await compare({ context, all, sweeps, model, read, store: views[0] });
        if (sequence.some(([, { op }]) => op === "outlastRetention")) continue;
        const whole = (await readToEnd(views[0], start, 3)).events.map(factsOf);
        assert.deepEqual(bySession(whole), bySession(model.events));
      }
      sweeps.expired += (await sumOfSweeps(context.store, 3)).expired;
      const expired = all.map(({ model }) => model.expired);
      assert.equal(
        sweeps.expired,
        expired.reduce((sum, count) => sum + count, 0),
      );
      await context.close();
    });
    await fc.assert(property, { numRuns: RUNS });
  },
};
