import { setImmediate } from "node:timers/promises";
import type { SessionKey, SessionStore } from "../../sessions/session-store.js";
import { hex } from "../contract/sessions/fixtures.js";
import { type BrokenSessionStore, broken } from "./broken-session-store.js";

const EXACTLY = "resealing replaces exactly the record, and keeps the version and all else";

/** Replaces the record of an active session by a change, at whatever version it has. */
async function changeRecord(store: SessionStore, key: SessionKey, record: Uint8Array) {
  const session = await store.get(key);
  return session && store.replaceRecord(key, session.version, record);
}

/** Stores that go wrong where sealed records are sealed anew. */
export const brokenResealing: readonly BrokenSessionStore[] = [
  broken("counts resealing as activity", [EXACTLY], ({ store }) => ({
    async reseal(key, record, resealed) {
      await store.touch(key);
      return store.reseal(key, record, resealed);
    },
  })),
  broken("adds a version with resealing", [EXACTLY, "resealing is no event"], ({ store }) => ({
    async reseal(key, record, resealed) {
      const isResealed = await store.reseal(key, record, resealed);
      if (isResealed) await changeRecord(store, key, resealed);
      return isResealed;
    },
  })),
  broken(
    "reseals active sessions only",
    ["expired and revoked sessions are resealed too, and stay what they are"],
    ({ store }) => ({
      reseal: async (key, record, resealed) =>
        (await store.get(key)) !== undefined && store.reseal(key, record, resealed),
    }),
  ),
  broken(
    "reseals whatever the record is",
    ["a record that is not the session's own is not replaced by resealing"],
    ({ store }) => ({
      async reseal(key, _record, resealed) {
        const session = await store.get(key);
        return session !== undefined && store.reseal(key, session.record, resealed);
      },
    }),
  ),
  broken(
    "compares records in one step and replaces them in another",
    ["of a change and a resealing that race, the change is never lost"],
    ({ store }) => ({
      async reseal(key, record, resealed) {
        const before = await store.get(key);
        if (before === undefined || hex(before.record) !== hex(record)) {
          return store.reseal(key, record, resealed);
        }
        await setImmediate();
        const after = await store.get(key);
        return after !== undefined && store.reseal(key, after.record, resealed);
      },
    }),
  ),
  broken(
    "reseals a session in any partition",
    ["what is not there, or elsewhere, is not resealed and nothing is made of it"],
    ({ store }) => ({
      async reseal({ id, partition }, record, resealed) {
        const key = { id, partition: (await store.partitionOf(id)) ?? partition };
        return store.reseal(key, record, resealed);
      },
    }),
  ),
];
