import { setTimeout as sleep } from "node:timers/promises";
import { SessiondError } from "../../errors.js";
import type { SessionKey, SessionStore } from "../../sessions/session-store.js";
import { addSession, keyOf } from "../contract/sessions/fixtures.js";

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
  /** How many calls failed as unavailable. */
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
      const session = await orUnavailable(addSession(store, { userId: `${worker}-${n % 50}` }));
      if (session === undefined) {
        this.unavailable++;
        continue;
      }
      const key = keyOf(session);
      if (n % 2 === 0) this.active.set(key.id, key);
      else if ((await orUnavailable(store.revoke(key, ""))) === undefined) this.unavailable++;
      else this.revoked.set(key.id, key);
    }
  }

  /** The promises that are broken, as a store sees it. */
  async broken(store: SessionStore): Promise<readonly string[]> {
    const [active, revoked] = [[...this.active.values()], [...this.revoked.values()]];
    const [lost, risen] = [await store.getMany(active), await store.getMany(revoked)];
    return [
      ...active.filter((_, i) => lost[i] === undefined).map(({ id }) => `lost ${id}`),
      ...revoked.filter((_, i) => risen[i] !== undefined).map(({ id }) => `risen ${id}`),
    ];
  }
}
