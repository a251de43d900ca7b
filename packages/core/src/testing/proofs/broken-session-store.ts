import type { SessionStore, StoredSession } from "../../sessions/session-store.js";
import type { Author } from "../../watch/author.js";
import type { EventLog } from "../../watch/session-event.js";
import { ACTIVE, EVERYTHING, listAll } from "../contract/sessions/fixtures.js";
import type {
  OpenSessionStore,
  OpenSessionStoreOptions,
} from "../contract/sessions/session-store-check.js";
import { type BrokenStore, overriding, type Shifted, shiftable } from "./broken-store.js";

export type BrokenSessionStore = BrokenStore<OpenSessionStore>;

/** What a broken store is made of. */
export interface CorrectSessionStore extends OpenSessionStoreOptions {
  readonly store: SessionStore;
  readonly shifted: Shifted;
  /** All sessions, ended ones too, in the order of creation. */
  readonly everything: () => Promise<readonly StoredSession[]>;
  /** The active sessions of a user, in the order of creation. */
  readonly activeOf: (userId: string) => Promise<readonly StoredSession[]>;
}

/** The methods in which a broken store differs from a correct one. */
export type Differ = (correct: CorrectSessionStore) => Partial<SessionStore>;

/**
 * Describes a broken store by the methods in which it differs from a correct one. With
 * `differPeer` there is a peer beside it, which differs in its own way.
 */
export function broken(
  fault: string,
  caughtBy: readonly string[],
  differ: Differ,
  differPeer?: Differ,
): BrokenSessionStore {
  return {
    fault,
    caughtBy,
    open: (openCorrect) => async (options) => {
      const { now, shifted } = shiftable(options.now);
      const opened = await openCorrect({ ...options, now });
      const wrap = (how: Differ, store: SessionStore): SessionStore => {
        const everything = () => listAll(store, EVERYTHING);
        const activeOf = (userId: string) => listAll(store, { ...ACTIVE, userId });
        const views = new Map<string, SessionStore>();
        // A view of a namespace has the same fault.
        const namespace = (name: string, author?: Author) => {
          if (author !== undefined) return wrap(how, store.namespace(name, author));
          const view = views.get(name) ?? wrap(how, store.namespace(name));
          views.set(name, view);
          return view;
        };
        const different = how({ ...options, store, shifted, everything, activeOf });
        return overriding(store, { namespace, ...different });
      };
      return {
        ...opened,
        store: wrap(differ, opened.store),
        ...(differPeer && { peer: wrap(differPeer, opened.peer ?? opened.store) }),
      };
    },
  };
}

type Method = Exclude<keyof SessionStore, "events" | "close" | "namespace">;
type Args<M extends Method> = Parameters<SessionStore[M]>;
type Answer<M extends Method> = Awaited<ReturnType<SessionStore[M]>>;
type Call = (...args: unknown[]) => Promise<unknown>;

/** Describes a broken store that makes a call with other arguments. */
export function asking<M extends Method>(
  fault: string,
  caughtBy: readonly string[],
  method: M,
  different: (...args: Args<M>) => Args<M>,
): BrokenSessionStore {
  return broken(fault, caughtBy, ({ store }) => {
    const correct = store[method].bind(store) as Call;
    return { [method]: (...args: Args<M>) => correct(...different(...args)) };
  });
}

/** Describes a broken store that answers a call with something else. */
export function answering<M extends Method>(
  fault: string,
  caughtBy: readonly string[],
  method: M,
  different: (
    answer: Answer<M>,
    correct: CorrectSessionStore,
    ...args: Args<M>
  ) => Answer<M> | Promise<Answer<M>>,
): BrokenSessionStore {
  return broken(fault, caughtBy, (correct) => {
    const call = correct.store[method].bind(correct.store) as Call;
    return {
      [method]: async (...args: Args<M>) =>
        different((await call(...args)) as Answer<M>, correct, ...args),
    };
  });
}

/** Describes a broken store by the methods in which its log of events differs. */
export function logging(
  fault: string,
  caughtBy: readonly string[],
  differ: (log: EventLog) => Partial<EventLog>,
): BrokenSessionStore {
  return broken(fault, caughtBy, ({ store }) => {
    return { events: overriding(store.events, differ(store.events)) };
  });
}
