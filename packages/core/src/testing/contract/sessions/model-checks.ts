import assert from "node:assert/strict";
import { env } from "node:process";
import fc from "fast-check";
import {
  ACTIVE,
  byCreation,
  bySession,
  comparable,
  EVERYTHING,
  type EventFacts,
  factsOf,
  followEvents,
  idsOf,
  keyOf,
  listAll,
  readToEnd,
  sumOfSweeps,
} from "./fixtures.js";
import { Model } from "./model.js";
import { type Run, step, take, USERS } from "./model-steps.js";
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
/** Comparing everything costs a store of many partitions a multiple of a step. */
const STEPS_BETWEEN_COMPARISONS = 7;

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
