import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { EVICTION_REASON, type StoredSession } from "../../session-store.js";
import type { SessionStoreCheck, SessionStoreContext } from "../session-store-check.js";
import {
  ACTIVE,
  byCreation,
  comparable,
  EVERYTHING,
  idsOf,
  keyOf,
  listAll,
  newSession,
} from "./fixtures.js";

const USERS = ["ann", "bob"];
/** Comparing everything costs a store of many partitions a multiple of a step. */
const STEPS_BETWEEN_COMPARISONS = 7;
const LIMIT = { maxSessionsPerUser: 3, policy: "evict_oldest" } as const;

/** One step. It concerns the session created this far `back`: some of them have ended. */
type Step =
  | { readonly op: "create"; user: number; idleTimeoutMs: number; lifetimeMs: number }
  | { readonly op: "touch" | "replaceRecord" | "rotateToken" | "revoke"; back: number }
  | { readonly op: "revokeUser"; user: number }
  | { readonly op: "wait"; ms: number }
  | { readonly op: "sweep" };

const user = fc.integer({ min: 0, max: USERS.length - 1 });
const back = fc.nat({ max: 9 });
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        op: fc.constant("create" as const),
        user,
        idleTimeoutMs: fc.integer({ min: 1, max: 100 }),
        lifetimeMs: fc.integer({ min: 1, max: 300 }),
      }),
    },
    {
      weight: 5,
      arbitrary: fc.record({
        op: fc.constantFrom("touch", "replaceRecord", "rotateToken", "revoke" as const),
        back,
      }),
    },
    { weight: 1, arbitrary: fc.record({ op: fc.constant("revokeUser" as const), user }) },
    {
      weight: 3,
      arbitrary: fc.record({
        op: fc.constant("wait" as const),
        ms: fc.integer({ min: 1, max: 30 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ op: fc.constant("sweep" as const) }) },
  ),
  { minLength: 10, maxLength: 40, size: "max" },
);

/** What the contract says must be there: a plain list, walked through for every answer. */
class Model {
  readonly sessions: StoredSession[] = [];
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

  change(id: string, change: Partial<StoredSession>): void {
    const index = this.sessions.findIndex((session) => session.id === id);
    const session = this.sessions[index];
    if (session) this.sessions[index] = { ...session, ...change };
  }

  revoke(session: StoredSession, revokeReason: string): void {
    this.change(session.id, {
      revokeTimeMs: this.#now(),
      revokeReason,
      version: session.version + 1,
      tokenHash: new Uint8Array(),
    });
  }

  rotate(session: StoredSession, tokenHash: Uint8Array): void {
    this.change(session.id, {
      ...this.activity(session),
      tokenHash,
      version: session.version + 1,
      authenticateTimeMs: this.#now(),
    });
  }

  activity(session: StoredSession): Partial<StoredSession> {
    const idleDeadlineMs = this.#now() + session.idleTimeoutMs;
    return {
      lastAccessTimeMs: this.#now(),
      expireTimeMs: Math.min(idleDeadlineMs, session.absoluteExpireTimeMs),
    };
  }
}

/** Takes a step in the store and in the model, and compares the answers. */
async function take(context: SessionStoreContext, model: Model, step: Step): Promise<void> {
  const { store, clock } = context;
  switch (step.op) {
    case "wait":
      return clock.advance(step.ms);
    case "sweep":
      // Retention outlasts the whole run, so there is nothing to remove.
      return assert.equal((await store.sweep(2)).reclaimed, 0);
    case "revokeUser": {
      const userId = USERS[step.user] ?? "";
      const active = model.active(userId);
      assert.equal(await store.revokeUser(userId, "all"), active.length);
      for (const session of active) model.revoke(session, "all");
      return;
    }
    case "create":
      return create(context, model, step);
    default: {
      const session = model.sessions.at(-1 - step.back);
      if (session) await changeOne(context, model, step.op, session);
    }
  }
}

async function create(
  { store }: SessionStoreContext,
  model: Model,
  { user, idleTimeoutMs, lifetimeMs }: Step & { readonly op: "create" },
): Promise<void> {
  const userId = USERS[user] ?? "";
  const active = model.active(userId);
  const tooMany = Math.max(0, active.length + 1 - LIMIT.maxSessionsPerUser);
  const evicted = active.slice(0, tooMany);
  const given = newSession({ userId, idleTimeoutMs, lifetimeMs });
  const { session, evictedIds } = await store.create(given, LIMIT);
  assert.deepEqual([...evictedIds], idsOf(evicted));
  for (const old of evicted) model.revoke(old, EVICTION_REASON);
  model.sessions.push(session);
}

async function changeOne(
  { store }: SessionStoreContext,
  model: Model,
  op: "touch" | "replaceRecord" | "rotateToken" | "revoke",
  session: StoredSession,
): Promise<void> {
  const active = model.isActive(session);
  switch (op) {
    case "touch":
      assert.equal((await store.touch(keyOf(session))) !== undefined, active);
      if (active) model.change(session.id, model.activity(session));
      return;
    case "replaceRecord": {
      const record = randomBytes(8);
      const { version } = session;
      const replaced = await store.replaceRecord(keyOf(session), version, record);
      assert.equal(typeof replaced === "object", active);
      if (active) model.change(session.id, { record, version: version + 1 });
      return;
    }
    case "rotateToken": {
      const tokenHash = randomBytes(32);
      const rotated = await store.rotateToken(keyOf(session), session.tokenHash, tokenHash);
      assert.equal(rotated !== undefined, active);
      if (active) model.rotate(session, tokenHash);
      return;
    }
    case "revoke":
      assert.equal(await store.revoke(keyOf(session), "one"), active);
      if (active) model.revoke(session, "one");
  }
}

/** Compares all that the store shows with the model. */
async function compare({ store }: SessionStoreContext, model: Model): Promise<void> {
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
}

/** Everything together, against a model. */
export const modelChecks: readonly SessionStoreCheck[] = [
  {
    title: "through any sequence of calls and deadlines the store shows what a plain list would",
    async run({ openAnother }) {
      const property = fc.asyncProperty(steps, async (sequence) => {
        const context = await openAnother();
        const model = new Model(context.clock.now);
        for (const [i, step] of sequence.entries()) {
          await take(context, model, step);
          if (i % STEPS_BETWEEN_COMPARISONS === 0) await compare(context, model);
        }
        await compare(context, model);
      });
      await fc.assert(property, { numRuns: 20 });
    },
  },
];
