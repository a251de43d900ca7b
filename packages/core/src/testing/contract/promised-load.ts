import { setTimeout as sleep } from "node:timers/promises";
import { SessiondError } from "../../errors.js";
import { generateSessionId, partitionOfUser } from "../../sessions/session-id.js";
import type { NewSession, SessionKey, SessionStore } from "../../sessions/session-store.js";

/** A limit that no user comes to. */
export const LIMIT = { maxSessionsPerUser: 1_000, policy: "reject" } as const;

/** A session of a user, with an id of its own. */
export function newSession(userId: string): NewSession {
  const partition = partitionOfUser(userId);
  return {
    key: { partition, id: generateSessionId(partition) },
    userId,
    record: Buffer.alloc(200, 1),
    tokenHash: Buffer.alloc(32, 2),
    idleTimeoutMs: 600_000,
    lifetimeMs: 600_000,
  };
}

/** The result of a call, or undefined where the store was unavailable; any other failure is a fault. */
export async function orUnavailable<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof SessiondError && error.reason === "STORE_UNAVAILABLE") return undefined;
    throw error;
  }
}

/** A load on a store that creates and revokes sessions, and knows what it was promised. */
export class PromisedLoad {
  /** The sessions that must be active. */
  readonly active = new Map<string, SessionKey>();
  /** The sessions that must not. */
  readonly revoked = new Map<string, SessionKey>();
  /** How many calls the store was unavailable for. */
  unavailable = 0;
  #isOver = false;
  readonly #workers: Promise<void>[];

  /** Starts so many workers, each making one call at a time. */
  constructor(store: SessionStore, workers: number) {
    this.#workers = Array.from({ length: workers }, (_, n) => this.#work(store, n));
  }

  /** Lets the calls under way end. */
  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#workers);
  }

  async #work(store: SessionStore, worker: number): Promise<void> {
    for (let n = 0; !this.#isOver; n++) {
      await sleep(1);
      const session = newSession(`${worker}-${n % 50}`);
      const { key } = session;
      if ((await orUnavailable(store.create(session, LIMIT))) === undefined) {
        this.unavailable++;
        continue;
      }
      if (n % 2 === 0) this.active.set(key.id, key);
      else if ((await orUnavailable(store.revoke(key, ""))) === undefined) this.unavailable++;
      else this.revoked.set(key.id, key);
    }
  }

  /** What is not as was promised, as a store sees it. */
  async broken(store: SessionStore): Promise<readonly string[]> {
    const [active, revoked] = [[...this.active.values()], [...this.revoked.values()]];
    const [lost, risen] = [await store.getMany(active), await store.getMany(revoked)];
    return [
      ...active.filter((_, i) => lost[i] === undefined).map(({ id }) => `lost ${id}`),
      ...revoked.filter((_, i) => risen[i] !== undefined).map(({ id }) => `risen ${id}`),
    ];
  }
}
