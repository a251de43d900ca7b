import { sessionAlreadyExists } from "../../errors.js";
import { isNamespace } from "../../namespace.js";
import type { SessionStore } from "../../sessions/session-store.js";
import type { EventCursor } from "../../watch/session-event.js";
import { type BrokenSessionStore, broken } from "./broken-session-store.js";
import { overriding } from "./broken-store.js";

const OWN_ONLY =
  "a session is found and changed in its own namespace only, whatever is known of it";
const OWN_IDS = "each namespace may have the same chosen id, and keeps it unique for itself";
const OWN_LISTS = "lists and counts show the sessions of their own namespace only";
const OWN_LIMIT = "a user's limit counts the sessions of one namespace only";
const OWN_USERS = "revoking a user's sessions revokes those of one namespace only";
const OWN_REQUESTS = "a request to create is recognised in its own namespace only";
const OWN_ROTATIONS = "a request to rotate is recognised in its own namespace only";
const OWN_FENCES = "the fence of a lock in one namespace refuses no update in another";
const OWN_EVENTS = "a namespace's log has its own events only, and its end tells nothing of others";
const OWN_POSITIONS = "a position in one namespace's log leads to no event of another";

/** Describes a broken store by the methods in which each view of a namespace differs. */
function leaking(
  fault: string,
  caughtBy: readonly string[],
  differ: (view: SessionStore, all: ReadonlyMap<string, SessionStore>) => Partial<SessionStore>,
): BrokenSessionStore {
  return broken(fault, caughtBy, ({ store }) => {
    const all = new Map<string, SessionStore>();
    return {
      namespace(name) {
        const view = store.namespace(name);
        all.set(name, view);
        return overriding(view, differ(view, all));
      },
    };
  });
}

/** The first answer of any namespace, where the own one has none. */
async function firstOf<T>(
  all: ReadonlyMap<string, SessionStore>,
  ask: (view: SessionStore) => Promise<T | undefined>,
): Promise<T | undefined> {
  for (const view of all.values()) {
    const answer = await ask(view);
    if (answer !== undefined) return answer;
  }
  return undefined;
}

/** Stores that let something pass from one namespace to another. */
export const brokenNamespaces: readonly BrokenSessionStore[] = [
  broken(
    "has one namespace for all",
    [OWN_ONLY, OWN_IDS, OWN_LISTS, OWN_LIMIT, OWN_USERS, OWN_REQUESTS, OWN_EVENTS, OWN_POSITIONS],
    ({ store }) => ({ namespace: () => store }),
  ),
  leaking("finds a session in any namespace", [OWN_ONLY], (_, all) => ({
    get: (key) => firstOf(all, (view) => view.get(key)),
  })),
  leaking("revokes a session in any namespace", [OWN_ONLY], (_, all) => ({
    revoke: async (...call) =>
      (await firstOf(all, async (view) => (await view.revoke(...call)) || undefined)) ?? false,
  })),
  leaking("keeps chosen ids unique across namespaces", [OWN_IDS], (view, all) => ({
    async create(session, limit) {
      const taken = await firstOf(all, (any) => any.partitionOf(session.key.id));
      if (taken !== undefined) throw sessionAlreadyExists();
      return view.create(session, limit);
    },
  })),
  leaking("lists the sessions of one namespace to all", [OWN_LISTS], (view, all) => ({
    list: (query) => (all.get("shop") ?? view).list(query),
  })),
  leaking("counts the sessions of all namespaces", [OWN_LISTS], (_, all) => ({
    async count(userId) {
      const counts = await Promise.all([...all.values()].map((view) => view.count(userId)));
      return counts.reduce((sum, count) => sum + count, 0);
    },
  })),
  leaking("counts the sessions of all namespaces for the limit", [OWN_LIMIT], (view, all) => ({
    async create(session, limit) {
      let others = 0;
      for (const any of all.values()) if (any !== view) others += await any.count(session.userId);
      const maxSessionsPerUser = Math.max(0, limit.maxSessionsPerUser - others);
      return view.create(session, { ...limit, maxSessionsPerUser });
    },
  })),
  leaking("revokes a user's sessions in all namespaces", [OWN_USERS], (_, all) => ({
    async revokeUser(...call) {
      const counts = await Promise.all([...all.values()].map((view) => view.revokeUser(...call)));
      return Math.max(...counts.map((count) => count ?? 0));
    },
  })),
  leaking("recognises a request in any namespace", [OWN_REQUESTS], (view, all) => ({
    createOnce: (...call) => (all.get("") ?? view).createOnce(...call),
  })),
  leaking("recognises a rotation in any namespace", [OWN_ROTATIONS], (view, all) => ({
    rotateTokenOnce: (...call) => (all.get("") ?? view).rotateTokenOnce(...call),
  })),
  leaking("knows fences by the session's id alone", [OWN_FENCES], (view, all) => ({
    async replaceRecord(key, version, record, fence, endsGrace) {
      const first = all.get("");
      if (first !== undefined && first !== view) {
        const current = await first.get(key);
        const seen = await first.replaceRecord(key, current?.version ?? 1, record, fence);
        if (seen === "fenced") return "fenced";
      }
      return view.replaceRecord(key, version, record, fence, endsGrace);
    },
  })),
  leaking("has one log for all namespaces", [OWN_EVENTS, OWN_POSITIONS], (view, all) => ({
    events: (all.get("shop") ?? view).events,
  })),
  broken("numbers the events of all namespaces together", [OWN_EVENTS], ({ store }) => {
    let changes = 0;
    const shifted = (cursor: EventCursor): EventCursor =>
      new Map([...cursor].map(([lane, at]) => [lane, { ...at, sequence: at.sequence + changes }]));
    return {
      namespace(name) {
        const view = store.namespace(name);
        return overriding(view, {
          create: async (...call) => {
            changes++;
            return view.create(...call);
          },
          events: overriding(view.events, {
            end: async (userId) => shifted(await view.events.end(userId)),
          }),
        });
      },
    };
  }),
  leaking(
    "tells nobody of events in a namespace",
    ["listeners hear of events in their namespace, through any server"],
    ({ events }) => ({ events: overriding(events, { subscribe: () => () => {} }) }),
  ),
  broken(
    "takes any name for a namespace",
    ["a name that is none is refused, so that it cannot stand for a key of another namespace"],
    ({ store }) => ({ namespace: (name) => store.namespace(isNamespace(name) ? name : "") }),
  ),
  broken(
    "keeps in other namespaces what a sweep has to remove",
    ["a sweep removes what has ended in every namespace, and nothing else"],
    ({ store, shifted, retentionMs }) => {
      const names = new Set<string>();
      return {
        namespace(name) {
          names.add(name);
          return store.namespace(name);
        },
        // By an earlier clock, once there are several.
        sweep: (limit) =>
          names.size > 1 ? shifted(-retentionMs, () => store.sweep(limit)) : store.sweep(limit),
      };
    },
  ),
  broken(
    "never forgets a namespace",
    ["the namespaces are known that have sessions, and forgotten with the last"],
    ({ store }) => {
      const known = new Set<string>();
      return {
        async namespaces() {
          for (const name of await store.namespaces()) known.add(name);
          return [...known];
        },
      };
    },
  ),
];
