import { keyOf } from "../contract/sessions/fixtures.js";
import { type BrokenSessionStore, broken } from "./broken-session-store.js";

const BOUNDED = "a sweep removes about as many as it was asked to, and says that there is more";

/** Stores that go wrong where ended sessions are removed. */
export const brokenSweeping: readonly BrokenSessionStore[] = [
  broken(
    "always says that there is more to sweep",
    ["sweeping an empty store does nothing"],
    ({ store }) => ({
      sweep: async (limit) => ({ ...(await store.sweep(limit)), more: true }),
    }),
  ),
  broken("never says that there is more to sweep", [BOUNDED], ({ store }) => ({
    sweep: async (limit) => ({ ...(await store.sweep(limit)), more: false }),
  })),
  broken("sweeps everything at once", [BOUNDED], ({ store }) => ({
    sweep: () => store.sweep(1_000_000),
  })),
  broken("sweeps a year early", ["active sessions are never swept"], ({ store, shifted }) => ({
    sweep: (limit) => shifted(365 * 24 * 3_600_000, () => store.sweep(limit)),
  })),
  broken(
    "sweeps a millisecond early",
    [
      "an expired session is kept until its retention is over, and removed then",
      "a revoked session's retention runs from its revocation",
    ],
    ({ store, shifted }) => ({ sweep: (limit) => shifted(1, () => store.sweep(limit)) }),
  ),
  broken(
    "sweeps a millisecond late",
    [
      "an expired session is kept until its retention is over, and removed then",
      "a revoked session's retention runs from its revocation",
    ],
    ({ store, shifted }) => ({ sweep: (limit) => shifted(-1, () => store.sweep(limit)) }),
  ),
  broken(
    "keeps revoked sessions until their deadline",
    ["a revoked session's retention runs from its revocation"],
    ({ store, everything, now, retentionMs }) => ({
      async sweep(limit) {
        const waiting = (await everything()).some(
          (session) =>
            session.revokeTimeMs !== undefined && now() < session.expireTimeMs + retentionMs,
        );
        return waiting ? { reclaimed: 0, healed: 0, more: false } : store.sweep(limit);
      },
    }),
  ),
  broken(
    "sweeps by the first deadline of a session",
    ["a touched session is not swept by the deadline it had before"],
    ({ store, everything, now }) => ({
      async sweep(limit) {
        for (const session of await everything()) {
          const firstDeadlineMs = session.createTimeMs + session.idleTimeoutMs;
          if (firstDeadlineMs <= now()) await store.revoke(keyOf(session), "");
        }
        return store.sweep(limit);
      },
    }),
  ),
  broken(
    "counts what other sweeps have removed as its own",
    ["sweeps that run at once remove each session once, and only what has ended"],
    ({ store, everything }) => ({
      async sweep(limit) {
        const before = (await everything()).length;
        const swept = await store.sweep(limit);
        return { ...swept, reclaimed: before - (await everything()).length };
      },
    }),
  ),
  {
    fault: "leaves a key behind",
    caughtBy: [
      "after all sessions have ended, however they did, sweeping leaves nothing at all",
      "an expired session is kept until its retention is over, and removed then",
      "after the last event was trimmed nothing is left of the log",
      "a request that is no longer recognised leaves nothing behind",
    ],
    open: (openCorrect) => async (options) => ({
      ...(await openCorrect(options)),
      leftovers: async () => 1,
      requestReclaimMs: 0,
    }),
  },
];
