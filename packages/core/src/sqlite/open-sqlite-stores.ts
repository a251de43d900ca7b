import { SqliteDatabase } from "./sqlite-database.js";
import { SqliteLockStore } from "./sqlite-lock-store.js";
import { SqliteRateLimitStore } from "./sqlite-rate-limit-store.js";
import { SqliteSessionStore, type SqliteSessionStoreOptions } from "./sqlite-session-store.js";

/** All stores in one file. */
export interface SqliteStores {
  readonly sessions: SqliteSessionStore;
  readonly locks: SqliteLockStore;
  readonly rateLimits: SqliteRateLimitStore;
  /** Closes the file. Pending and later calls fail with STORE_UNAVAILABLE. */
  close(): Promise<void>;
}

/** Opens the stores of a file as `openDatabase` does. */
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
