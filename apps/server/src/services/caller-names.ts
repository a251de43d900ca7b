import { hash, randomBytes } from "node:crypto";
import { overloaded } from "@sessiond/core";
import type { Caller } from "../auth/caller.js";

/** Names are counted for an hour at least, as long as a store remembers the token of a lock. */
const WINDOW_MS = 3_600_000;
/** Callers are services, so there are few. The one that was seen first is forgotten first. */
const MAX_CALLERS = 10_000;

interface Names {
  sinceMs: number;
  /** Hashes of the names, which take 8 bytes each and not 256. */
  seen: Set<number>;
}

/**
 * Bounds how many locks and rate-limit keys each caller makes in an hour: the store keeps each of
 * them for a while. Who uses the same names again and again is never refused.
 */
export class CallerNames {
  readonly #most: number;
  readonly #now: () => number;
  readonly #byCaller = new Map<string, Names>();
  /** So that nobody can choose names with one hash. */
  readonly #salt = randomBytes(16).toString("hex");

  constructor(most: number, now: () => number = () => performance.now()) {
    this.#most = most;
    this.#now = now;
  }

  /** Throws OVERLOADED if the caller has used `most` other names in this hour. */
  use(caller: Caller, name: string): void {
    const names = this.#namesOf(JSON.stringify([caller.issuer, caller.subject, caller.namespace]));
    // 31 bits are no object. Two names with one hash count as one.
    const digest = Number.parseInt(hash("sha256", this.#salt + name).slice(0, 8), 16) >>> 1;
    if (names.seen.has(digest)) return;
    if (names.seen.size >= this.#most) {
      const endsInMs = names.sinceMs + WINDOW_MS - this.#now();
      throw overloaded(
        "caller_names",
        `this caller has used ${this.#most} names of locks and keys of rate limits within an hour`,
        { retryAfterMs: Math.max(1_000, endsInMs) },
      );
    }
    names.seen.add(digest);
  }

  #namesOf(caller: string): Names {
    const nowMs = this.#now();
    const known = this.#byCaller.get(caller);
    if (known !== undefined && nowMs < known.sinceMs + WINDOW_MS) return known;
    const names = { sinceMs: nowMs, seen: new Set<number>() };
    this.#byCaller.delete(caller);
    this.#byCaller.set(caller, names);
    const [oldest = caller] = this.#byCaller.keys();
    if (this.#byCaller.size > MAX_CALLERS) this.#byCaller.delete(oldest);
    return names;
  }
}
