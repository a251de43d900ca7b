import { setTimeout as sleep } from "node:timers/promises";
import { SessiondError } from "../../errors.js";
import { withReplacedToken } from "../../sessions/replaced-tokens.js";
import type { SessionKey, StoredSession } from "../../sessions/session-store.js";
import { hex } from "../contract/sessions/fixtures.js";
import type { RecordedStore } from "./recorded-user.js";

/** A store that is right as long as calls come one by one and nothing fails, or nearly so. */
export interface BrokenUnderConcurrency {
  /** What it does wrong: "a store that …". */
  readonly fault: string;
  /** Whether it goes wrong only when something else does. */
  readonly needsFaults?: boolean;
  readonly differ: (store: RecordedStore) => Partial<RecordedStore>;
}

const STALE_FOR_MS = 50;
const MAX_REPLAYS = 20;

/** Stores whose faults show only in how calls meet. They prove that a run sees them. */
export const brokenUnderConcurrency: readonly BrokenUnderConcurrency[] = [
  {
    fault: "sends a write again when its reply was lost, as Redis clients do by themselves",
    needsFaults: true,
    differ: (store) => ({
      create: (session, limit) => replayed(() => store.create(session, limit)),
      revoke: (...args) => replayed(() => store.revoke(...args)),
      replaceRecord: (...change) => replayed(() => store.replaceRecord(...change)),
      rotateToken: (...rotation) => replayed(() => store.rotateToken(...rotation)),
    }),
  },
  {
    fault: "answers from a cache for 50 ms after a revocation",
    differ(store) {
      const cache = new Map<string, { session: StoredSession; untilMs: number }>();
      return {
        async get(key) {
          const cached = cache.get(key.id);
          if (cached && performance.now() < cached.untilMs) return cached.session;
          const session = await store.get(key);
          if (session) cache.set(key.id, { session, untilMs: 0 });
          return session;
        },
        revoke(key, ...args) {
          const cached = cache.get(key.id);
          if (cached) cached.untilMs = performance.now() + STALE_FOR_MS;
          return store.revoke(key, ...args);
        },
      };
    },
  },
  {
    fault: "goes by a late clock for the end of a token that is replaced without a grace",
    differ(store) {
      const replaced = new Map<string, { tokenHash: Uint8Array; untilMs: number }>();
      return {
        async rotateToken(key, tokenHash, newTokenHash, graceMs) {
          const rotated = await store.rotateToken(key, tokenHash, newTokenHash, graceMs);
          const untilMs = performance.now() + STALE_FOR_MS;
          if (rotated && !graceMs) replaced.set(key.id, { tokenHash, untilMs });
          return rotated;
        },
        async get(key) {
          const session = await store.get(key);
          const { tokenHash, untilMs = 0 } = replaced.get(key.id) ?? {};
          if (!session || !tokenHash || performance.now() >= untilMs) return session;
          const first = { tokenHash, replacedTokens: new Uint8Array() };
          return { ...session, replacedTokens: withReplacedToken(first, session.readTimeMs, 1) };
        },
      };
    },
  },
  {
    fault: "rotates in two steps: reads the token, then writes it",
    differ: (store) => ({
      async rotateToken(key, tokenHash, newTokenHash, graceMs) {
        const session = await store.get(key);
        if (session === undefined || hex(session.tokenHash) !== hex(tokenHash)) return undefined;
        return rotateAnyToken(store, key, newTokenHash, graceMs);
      },
    }),
  },
  {
    fault: "now and then acknowledges a revocation that it does not make",
    differ(store) {
      let revocations = 0;
      return {
        async revoke(key, reason, tokenHash, userId) {
          revocations++;
          const isForAnybody = tokenHash === undefined && userId === undefined;
          const isDropped = revocations % 10 === 0 && isForAnybody;
          if (isDropped && (await store.get(key))) return true;
          return store.revoke(key, reason, tokenHash, userId);
        },
      };
    },
  },
  {
    fault: "brings a session back when a touch under way meets its revocation",
    differ(store) {
      const back = new Map<string, StoredSession>();
      return {
        get: async (key) => (await store.get(key)) ?? back.get(key.id),
        async touch(key, tokenHash) {
          const before = await store.get(key);
          const touched = await store.touch(key, tokenHash);
          if (before && !touched && !(await store.get(key))) back.set(key.id, before);
          return touched;
        },
      };
    },
  },
];

async function replayed<T>(write: () => Promise<T>): Promise<T> {
  for (let replay = 0; ; replay++) {
    try {
      return await write();
    } catch (error) {
      const isLost = error instanceof SessiondError && error.reason === "STORE_UNAVAILABLE";
      if (!isLost || replay === MAX_REPLAYS) throw error;
      await sleep(50);
    }
  }
}

async function rotateAnyToken(
  store: RecordedStore,
  key: SessionKey,
  newTokenHash: Uint8Array,
  graceMs?: number,
) {
  for (;;) {
    const current = await store.get(key);
    if (current === undefined) return undefined;
    const rotated = await store.rotateToken(key, current.tokenHash, newTokenHash, graceMs);
    if (rotated !== undefined) return rotated;
  }
}
