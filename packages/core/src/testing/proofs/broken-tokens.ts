import { randomBytes } from "node:crypto";
import { findReplacedToken, REUSE_REASON } from "../../sessions/replaced-tokens.js";
import type { StoredSession } from "../../sessions/session-store.js";
import { answering, asking, type BrokenSessionStore, broken } from "./broken-session-store.js";

const GRACE = "a token that is replaced with a grace proves the session until the grace is over";
const GRACE_AND_REVOCATION =
  "a replaced token in its grace can end the session, whose tokens then prove nothing";
const GRACE_END = "a grace ends with a rotation that has none, and with a change that says so";
const GRACE_RACE =
  "rotations that race over a token with a grace have one winner, and lose no session";
const CLOCK_BACK =
  "a token whose grace was none, or was ended early, proves nothing when the clock is set back";
const REUSE_EVENT = "a replaced token that is presented after its grace is an event, once a minute";
const REUSE_END =
  "a reuse ends the session if it is asked for, once the token's grace is over for long";
const REUSE_AFTER_EARLY_END = "a token whose grace was ended early is replaced from then on";
const MODEL = "through any calls and deadlines the store shows what a plain list would";
const REQUEST_ONCE = "a request to rotate takes effect once, however often and wherever it is sent";
const REQUEST_REPEATED =
  "a repetition answers the session as it is now, to its owner, and nothing once it has ended";
const REQUEST_NEWEST =
  "only a session's newest rotation can be repeated, and nothing is kept of others";
const REQUEST_FORGOTTEN =
  "a request to rotate is forgotten after its time, and a refused one at once";

/** Stores that go wrong where a token is replaced, or presented afterwards. */
export const brokenTokens: readonly BrokenSessionStore[] = [
  asking(
    "forgets the grace",
    [GRACE, GRACE_AND_REVOCATION, GRACE_END, GRACE_RACE, MODEL],
    "rotateToken",
    (key, tokenHash, newTokenHash) => [key, tokenHash, newTokenHash],
  ),
  asking(
    "lets a grace last a millisecond longer",
    [GRACE, REUSE_EVENT],
    "rotateToken",
    (key, tokenHash, newTokenHash, graceMs) => [
      key,
      tokenHash,
      newTokenHash,
      graceMs && graceMs + 1,
    ],
  ),
  broken("ends no grace early", [GRACE_END, REUSE_AFTER_EARLY_END], ({ store }) => ({
    replaceRecord: (key, version, record, fence) =>
      store.replaceRecord(key, version, record, fence),
    rotateToken: (key, tokenHash, newTokenHash, graceMs = 0) =>
      store.rotateToken(key, tokenHash, newTokenHash, Math.max(graceMs, 1)),
  })),
  broken(
    "lets a revoked session live through a grace",
    [GRACE_AND_REVOCATION],
    ({ store, now }) => {
      const inGrace = new Map<string, StoredSession & { readonly graceEndTimeMs: number }>();
      const survivor = (id: string) => {
        const session = inGrace.get(id);
        return session && now() < session.graceEndTimeMs ? session : undefined;
      };
      return {
        async rotateToken(key, tokenHash, newTokenHash, graceMs = 0) {
          const rotated = await store.rotateToken(key, tokenHash, newTokenHash, graceMs);
          if (rotated) inGrace.set(key.id, { ...rotated, graceEndTimeMs: now() + graceMs });
          return rotated;
        },
        get: async (key) => (await store.get(key)) ?? survivor(key.id),
        touch: async (key, tokenHash) => (await store.touch(key, tokenHash)) ?? survivor(key.id),
      };
    },
  ),
  broken(
    "ends a token at a time, before which the clock may be set back",
    [CLOCK_BACK],
    ({ store, now }) => {
      const replaced = new Map<
        string,
        { readonly tokenHash: Uint8Array; readonly timeMs: number }
      >();
      return {
        async rotateToken(key, tokenHash, ...rotation) {
          const rotated = await store.rotateToken(key, tokenHash, ...rotation);
          if (rotated) replaced.set(key.id, { tokenHash, timeMs: now() });
          return rotated;
        },
        async get(key) {
          const session = await store.get(key);
          const { tokenHash, timeMs = 0 } = replaced.get(key.id) ?? {};
          return session && tokenHash && now() < timeMs ? { ...session, tokenHash } : session;
        },
      };
    },
  ),
  broken("rotates by a replaced token in its grace", [GRACE, GRACE_RACE], ({ store }) => ({
    async rotateToken(key, tokenHash, newTokenHash, graceMs) {
      const rotated = await store.rotateToken(key, tokenHash, newTokenHash, graceMs);
      const current = rotated ? undefined : await store.get(key);
      const replaced = current && findReplacedToken(current.replacedTokens, tokenHash);
      if (!replaced || current.readTimeMs >= replaced.graceEndTimeMs) return rotated;
      return store.rotateToken(key, current.tokenHash, newTokenHash, graceMs);
    },
  })),
  broken(
    "rotates again at each repetition",
    [REQUEST_ONCE, REQUEST_REPEATED, REQUEST_FORGOTTEN],
    ({ store }) => ({ rotateTokenOnce: (_, ...rotation) => store.rotateToken(...rotation) }),
  ),
  broken(
    "answers every request that was ever made, to anybody",
    [REQUEST_REPEATED, REQUEST_NEWEST, REQUEST_FORGOTTEN],
    ({ store }) => {
      const records = new Map<string, Uint8Array>();
      return {
        async rotateTokenOnce(request, key, ...rotation) {
          const [repeated, session] = [records.get(request.key), await store.get(key)];
          if (repeated && session) return { repeated, session };
          records.set(request.key, request.record);
          return store.rotateTokenOnce(request, key, ...rotation);
        },
      };
    },
  ),
  broken(
    "reports no reuse",
    [
      ...[REUSE_EVENT, REUSE_END, REUSE_AFTER_EARLY_END],
      "a session remembers its newest replaced tokens, in bounded space",
    ],
    () => ({ reportReuse: async () => false }),
  ),
  broken(
    "reports a use in the last millisecond of the grace, and revokes a millisecond early",
    [REUSE_EVENT, REUSE_END, REUSE_AFTER_EARLY_END],
    ({ store, shifted }) => ({
      reportReuse: (...report) => shifted(1, () => store.reportReuse(...report)),
    }),
  ),
  answering(
    "says that a reuse ended the session whenever it was asked for",
    [REUSE_END],
    "reportReuse",
    (_, __, ___, ____, revokes) => revokes,
  ),
  broken(
    "ends a session for any token that does not prove it",
    ["a report of a token that was never the session's, or still is, changes nothing"],
    ({ store }) => ({
      async reportReuse(key, tokenHash, revokes) {
        const isRevoked = await store.reportReuse(key, tokenHash, revokes);
        return isRevoked || (revokes && (await store.revoke(key, REUSE_REASON)));
      },
    }),
  ),
  broken(
    "remembers replaced tokens without end",
    ["a session remembers its newest replaced tokens, in bounded space"],
    ({ store }) => ({
      async rotateToken(...rotation) {
        const rotated = await store.rotateToken(...rotation);
        if (!rotated) return rotated;
        const { replacedTokens, version } = rotated;
        return {
          ...rotated,
          replacedTokens: Buffer.concat([replacedTokens, randomBytes(version)]),
        };
      },
    }),
  ),
  asking(
    "gives a session that moves in the times of any new one",
    [
      "a moved-in session has its times, within its deadlines",
      "a moved-in session's times are cut to what can be, and one that has ended is refused",
    ],
    "create",
    ({ movedIn: _, ...session }, limit) => [session, limit],
  ),
];
