import assert from "node:assert/strict";
import fc from "fast-check";
import type { LockStore } from "../../../locks/lock-store.js";
import type { FakeClock } from "../fake-clock.js";
import type { LockStoreChecks } from "./lock-store-check.js";

const RUNS = 30;
const NAMES = ["a", "b"] as const;
const LOCK_IDS = ["ann", "bob", "carol"] as const;

const who = { name: fc.constantFrom(...NAMES), lockId: fc.constantFrom(...LOCK_IDS) };
const ttlMs = fc.integer({ min: 1, max: 1_000 });
const step = fc.oneof(
  fc.record({
    op: fc.constant("acquire" as const),
    ...who,
    ttlMs,
    queueForMs: fc.constantFrom(0, 0, 700),
  }),
  fc.record({ op: fc.constant("renew" as const), ...who, ttlMs }),
  fc.record({ op: fc.constant("release" as const), ...who }),
  fc.record({ op: fc.constant("pass" as const), ms: fc.integer({ min: 1, max: 800 }) }),
  fc.record({
    op: fc.constant("passToEnd" as const),
    name: fc.constantFrom(...NAMES),
    early: fc.boolean(),
  }),
);
const steps = fc.array(step, { maxLength: 100, size: "max" });
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** A lock as it should be. */
interface ModelLock {
  holder: string | undefined;
  token: number;
  expireTimeMs: number;
  /** Whether anybody ever asked for a place: the lock may then be kept for them. */
  hasQueue: boolean;
}

/** Makes a call and compares its answer with the model, which it then changes. */
async function take(
  { store, clock, lock }: { store: LockStore; clock: FakeClock; lock: ModelLock },
  step: Exclude<Step, { op: "pass" | "passToEnd" }>,
): Promise<void> {
  const { name, lockId } = step;
  const isHeld = lock.holder !== undefined && clock.now() < lock.expireTimeMs;
  const isOwn = isHeld && lock.holder === lockId;
  switch (step.op) {
    case "acquire": {
      const answer = await store.acquire(name, lockId, step.ttlMs, step.queueForMs);
      lock.hasQueue ||= step.queueForMs > 0;
      assert.equal(answer.readTimeMs, clock.now());
      if ("occupied" in answer) {
        assert.ok(!isOwn && (isHeld || lock.hasQueue));
        if (isHeld) assert.equal(answer.expireTimeMs, lock.expireTimeMs);
        return;
      }
      assert.ok(isOwn || !isHeld, "two have the lock");
      if (isOwn) {
        assert.equal(answer.fencingToken, lock.token);
      } else {
        assert.ok(answer.fencingToken > lock.token && answer.fencingToken >= clock.now());
        lock.holder = lockId;
        lock.token = answer.fencingToken;
        lock.expireTimeMs = clock.now() + step.ttlMs;
      }
      assert.equal(answer.expireTimeMs, lock.expireTimeMs);
      return;
    }
    case "renew": {
      const renewed = await store.renew(name, lockId, step.ttlMs);
      assert.equal(renewed !== undefined, isOwn);
      if (isOwn) lock.expireTimeMs = clock.now() + step.ttlMs;
      return;
    }
    case "release":
      assert.equal(await store.release(name, lockId), isOwn);
      if (isOwn) lock.holder = undefined;
  }
}

function pass(clock: FakeClock, locks: ReadonlyMap<string, ModelLock>, step: Step): boolean {
  if (step.op === "pass") {
    clock.advance(step.ms);
    return true;
  }
  if (step.op !== "passToEnd") return false;
  const end = (locks.get(step.name)?.expireTimeMs ?? 0) - (step.early ? 1 : 0);
  if (end > clock.now()) clock.advanceTo(end);
  return true;
}

/** Everything together, against a model. */
export const lockModelChecks: LockStoreChecks = {
  "through any calls and deadlines one at most has a lock, and tokens grow": async (t) => {
    const { openAnother } = t;
    const property = fc.asyncProperty(steps, async (sequence) => {
      const { store, peer, clock } = await openAnother();
      const locks = new Map<string, ModelLock>(
        NAMES.map((name) => [
          name,
          { holder: undefined, token: 0, expireTimeMs: 0, hasQueue: false },
        ]),
      );
      for (const [i, step] of sequence.entries()) {
        if (pass(clock, locks, step) || !("lockId" in step)) continue;
        const lock = locks.get(step.name) as ModelLock;
        await take({ store: i % 3 === 0 ? peer : store, clock, lock }, step);
        const isHeld = lock.holder !== undefined && clock.now() < lock.expireTimeMs;
        const { fencingToken, expireTimeMs } = (await store.get(step.name)) ?? {};
        assert.equal(fencingToken, isHeld ? lock.token : undefined);
        assert.equal(expireTimeMs, isHeld ? lock.expireTimeMs : undefined);
      }
    });
    await fc.assert(property, { numRuns: RUNS });
  },
};
