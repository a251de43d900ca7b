import { SqliteDatabase } from "./sqlite-database.js";
import { SqliteLockStore } from "./sqlite-lock-store.js";
import { SqliteRateLimitStore } from "./sqlite-rate-limit-store.js";
import { SqliteSessionStore, type SqliteSessionStoreOptions } from "./sqlite-session-store.js";

/** All that is in one file. */
export interface SqliteStores {
  readonly sessions: SqliteSessionStore;
  readonly locks: SqliteLockStore;
  readonly rateLimits: SqliteRateLimitStore;
  /** Closes the file. Calls still under way, and later ones, fail with STORE_UNAVAILABLE. */
  close(): Promise<void>;
}

/**
 * Opens a file, and makes it first where there is none. Throws STORE_UNAVAILABLE
 * with the reason where it cannot, also for a file that a newer version has written.
 */
export async function openSqliteStores(options: SqliteSessionStoreOptions): Promise<SqliteStores> {
  const database = await SqliteDatabase.open(options);
  const sessions = new SqliteSessionStore(database, options);
  return {
    sessions,
    locks: new SqliteLockStore(database),
    rateLimits: new SqliteRateLimitStore(database),
    close: () => sessions.close(),
  };
}
