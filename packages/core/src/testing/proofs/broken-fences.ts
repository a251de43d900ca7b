import type { Fence, SessionStore } from "../../sessions/session-store.js";
import { type BrokenSessionStore, broken } from "./broken-session-store.js";

type ReplaceRecord = SessionStore["replaceRecord"];

/** Passes another fence on than it was given. */
function refencing(
  change: (fence: Fence, key: { readonly id: string }) => Fence | undefined,
): (correct: { readonly store: SessionStore }) => { readonly replaceRecord: ReplaceRecord } {
  return ({ store }) => ({
    replaceRecord: (key, version, record, fence) =>
      store.replaceRecord(key, version, record, fence && change(fence, key)),
  });
}

const LOWER = "a change with a lower token than one that was seen is fenced, and changes nothing";
const EXACT = "tokens are compared as numbers, exactly up to 2^53";
const EACH = "each lock fences for itself, and each session";
const NOT_MADE = "a change that is not made leaves no token behind";
const RACE =
  "of changes that race with different tokens none is made after one with a higher token";
const BOUND = "a session is fenced by so many locks and no more";
const GONE = "the tokens go with the session";

/** Stores that let a holder write that was overtaken, or refuse one that was not. */
export const brokenFences: readonly BrokenSessionStore[] = [
  broken(
    "ignores fences",
    [LOWER, EXACT, RACE, BOUND],
    refencing(() => undefined),
  ),
  broken("refuses the token that it has seen", [LOWER], ({ store }) => {
    const seen = new Set<string>();
    return {
      replaceRecord: async (key, version, record, fence) => {
        const name = `${key.id} ${fence?.lock} ${fence?.token}`;
        if (fence && seen.has(name)) return "fenced";
        seen.add(name);
        return store.replaceRecord(key, version, record, fence);
      },
    };
  }),
  broken("says of a fenced change that the version is another", [LOWER, EXACT], ({ store }) => ({
    replaceRecord: async (...call) => {
      const answer = await store.replaceRecord(...call);
      return answer === "fenced" ? "version_mismatch" : answer;
    },
  })),
  broken(
    "rounds tokens",
    [EXACT],
    refencing(({ lock, token }) => ({ lock, token: Math.ceil(token / 2) })),
  ),
  broken(
    "takes one lock for another",
    [EACH],
    refencing(({ lock, token }) => ({ lock: lock.slice(0, 2), token })),
  ),
  broken("fences all sessions at once", [EACH, GONE], ({ store }) => {
    const highest = new Map<string, number>();
    return {
      replaceRecord: async (key, version, record, fence) => {
        if (fence && (highest.get(fence.lock) ?? 0) > fence.token) return "fenced";
        const answer = await store.replaceRecord(key, version, record, fence);
        if (fence && typeof answer === "object") highest.set(fence.lock, fence.token);
        return answer;
      },
    };
  }),
  broken("remembers the token of a change that was not made", [NOT_MADE], ({ store }) => {
    const highest = new Map<string, number>();
    return {
      replaceRecord: async (key, version, record, fence) => {
        const name = `${key.id} ${fence?.lock}`;
        if (fence && (highest.get(name) ?? 0) > fence.token) return "fenced";
        if (fence) highest.set(name, fence.token);
        return store.replaceRecord(key, version, record, fence);
      },
    };
  }),
  broken("compares the token before it makes the change", [RACE], ({ store }) => {
    const highest = new Map<string, number>();
    return {
      replaceRecord: async (key, _version, record, fence) => {
        if (fence && (highest.get(key.id) ?? 0) > fence.token) return "fenced";
        for (;;) {
          const { version = 0 } = (await store.get(key)) ?? {};
          const answer = await store.replaceRecord(key, version, record);
          if (answer === "version_mismatch") continue;
          if (fence && typeof answer === "object") highest.set(key.id, fence.token);
          return answer;
        }
      },
    };
  }),
];
