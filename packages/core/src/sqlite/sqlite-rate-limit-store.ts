import type { StatementSync } from "node:sqlite";
import { assertNamespace } from "../namespace.js";
import { summarize, type WindowStanding } from "../rate-limits/rate-limit-state.js";
import type {
  RateLimitAttempt,
  RateLimitState,
  RateLimitStore,
  RateLimitWindow,
} from "../rate-limits/rate-limit-store.js";
import type { SqliteDatabase } from "./sqlite-database.js";
import { STATEMENTS as FILE_STATEMENTS, firstColumn, prepareAll } from "./statements.js";

/** How many expired attempts of any keys a new attempt removes: more than it adds. */
const REMOVED_PER_ATTEMPT = 2;

/** A key of a namespace. */
interface Place {
  readonly namespace: string;
  readonly key: string;
}

/** The state of a key at the moment of an attempt. */
interface Moment {
  readonly at: Place;
  readonly cost: number;
  readonly clockMs: number;
  /** The key's own time, which never goes back. */
  readonly nowMs: number;
  /** The time of the newest attempt that counts. */
  readonly newestMs: number;
  /** The cost of all attempts up to the newest. */
  readonly total: number;
}

/** A window, and the cost that counts in it. */
interface UsedWindow {
  readonly window: RateLimitWindow;
  readonly used: number;
}

const AT_KEY = "namespace = :namespace AND key = :key";

/**
 * A row has the total cost of this and all earlier attempts, so a window's cost is a difference.
 */
const STATEMENTS = {
  newest: `
    SELECT time_ms, total FROM rate_limit_attempts WHERE ${AT_KEY}
    ORDER BY time_ms DESC, total DESC LIMIT 1`,
  totalBefore: `
    SELECT total - cost FROM rate_limit_attempts WHERE ${AT_KEY} AND time_ms > :after
    ORDER BY time_ms, total LIMIT 1`,
  timeOfTotal: `
    SELECT time_ms FROM rate_limit_attempts WHERE ${AT_KEY} AND total >= :total
    ORDER BY time_ms, total LIMIT 1`,
  insert: `
    INSERT INTO rate_limit_attempts (namespace, key, time_ms, total, cost, expire_time_ms)
    VALUES (:namespace, :key, :now, :total, :cost, :expireTime)`,
  removeLeft: `DELETE FROM rate_limit_attempts WHERE ${AT_KEY} AND time_ms <= :until`,
  oldest: `
    SELECT time_ms, total FROM rate_limit_attempts WHERE ${AT_KEY}
    ORDER BY time_ms, total LIMIT 1`,
  removeOne: `
    DELETE FROM rate_limit_attempts WHERE ${AT_KEY} AND time_ms = :time AND total = :total`,
  removeKey: `DELETE FROM rate_limit_attempts WHERE ${AT_KEY}`,
  removeExpired: FILE_STATEMENTS.removeExpiredAttempts,
} as const;

type Statements = { readonly [name in keyof typeof STATEMENTS]: StatementSync };

/**
 * Rate limits in an SQLite file: one row per attempt that counts. Later attempts and the sweep of
 * sessions remove expired rows.
 */
export class SqliteRateLimitStore implements RateLimitStore {
  readonly #database: SqliteDatabase;
  readonly #namespace: string;
  readonly #statements: Statements;

  /** A store in a database that others close. Its namespaces share the statements. */
  constructor(
    database: SqliteDatabase,
    namespace = "",
    statements: Statements = prepareAll(database.db, STATEMENTS),
  ) {
    assertNamespace(namespace);
    this.#database = database;
    this.#namespace = namespace;
    this.#statements = statements;
  }

  namespace(name: string): SqliteRateLimitStore {
    return new SqliteRateLimitStore(this.#database, name, this.#statements);
  }

  check(
    key: string,
    windows: readonly RateLimitWindow[],
    { cost, countRefused }: RateLimitAttempt,
  ): Promise<RateLimitState> {
    return this.#database.writeMore((now) => {
      const before = this.#moment(key, cost, now);
      const used = this.#used(before, windows);
      const isAllowed = hasRoom(used, cost);
      if (!isAllowed && !countRefused) return this.#answer(before, used, isAllowed);
      const after = this.#add(before, windows);
      const usedAfter = used.map(({ window, used }) => ({ window, used: used + cost }));
      return this.#answer(after, usedAfter, isAllowed);
    });
  }

  async get(
    key: string,
    windows: readonly RateLimitWindow[],
    cost: number,
  ): Promise<RateLimitState> {
    return this.#database.read((now) =>
      this.#database.inSnapshot(() => {
        const moment = this.#moment(key, cost, now);
        const used = this.#used(moment, windows);
        return this.#answer(moment, used, hasRoom(used, cost));
      }),
    );
  }

  async reset(key: string): Promise<void> {
    await this.#database.writeEnd(() =>
      this.#statements.removeKey.run({ namespace: this.#namespace, key }),
    );
  }

  #moment(key: string, cost: number, clockMs: number): Moment {
    const at = { namespace: this.#namespace, key };
    const row = this.#statements.newest.get({ ...at }) as [number, number] | undefined;
    const [newestMs, total] = row ?? [clockMs, 0];
    return { at, cost, clockMs, nowMs: Math.max(clockMs, newestMs), newestMs, total };
  }

  #used({ at, nowMs, total }: Moment, windows: readonly RateLimitWindow[]): UsedWindow[] {
    return windows.map((window) => {
      const row = this.#statements.totalBefore.get({ ...at, after: nowMs - window.windowMs });
      return { window, used: row === undefined ? 0 : total - Number(firstColumn(row)) };
    });
  }

  /**
   * Counts an attempt, and removes attempts that can change no answer any more: those that have
   * left all windows, and those older than attempts that fill the greatest limit.
   */
  #add(moment: Moment, windows: readonly RateLimitWindow[]): Moment {
    const { at, cost, clockMs, nowMs: now } = moment;
    const total = moment.total + cost;
    const longestMs = Math.max(...windows.map(({ windowMs }) => windowMs));
    const greatestLimit = Math.max(...windows.map(({ limit }) => limit));
    this.#statements.removeExpired.run({ now: clockMs, limit: REMOVED_PER_ATTEMPT });
    this.#statements.removeLeft.run({ ...at, until: now - longestMs });
    this.#statements.insert.run({ ...at, now, total, cost, expireTime: now + longestMs });
    this.#removeNeedless(at, total - greatestLimit);
    return { ...moment, total, newestMs: now };
  }

  /** One by one from the oldest on: a search would read all attempts. */
  #removeNeedless(at: Place, greatestTotal: number): void {
    for (;;) {
      const [time, total] = (this.#statements.oldest.get({ ...at }) ?? []) as readonly number[];
      if (time === undefined || total === undefined || total > greatestTotal) return;
      this.#statements.removeOne.run({ ...at, time, total });
    }
  }

  #answer(moment: Moment, windows: readonly UsedWindow[], isAllowed: boolean): RateLimitState {
    const { clockMs, newestMs } = moment;
    const standings = windows.map(({ window, used }): WindowStanding => {
      const resetTimeMs = used > 0 ? newestMs + window.windowMs : clockMs;
      const retryAfterMs = isAllowed ? 0 : this.#waitFor(moment, window, used);
      return { window, used, retryAfterMs, resetTimeMs };
    });
    return summarize(isAllowed, standings);
  }

  /** There is room once enough attempts have left the window. */
  #waitFor({ at, cost, clockMs, total }: Moment, window: RateLimitWindow, used: number): number {
    const { limit, windowMs } = window;
    if (used + cost <= limit) return 0;
    const lastToLeave = this.#statements.timeOfTotal.get({ ...at, total: total - limit + cost });
    return Number(firstColumn(lastToLeave)) + windowMs - clockMs;
  }
}

function hasRoom(windows: readonly UsedWindow[], cost: number): boolean {
  return windows.every(({ window, used }) => used + cost <= window.limit);
}
