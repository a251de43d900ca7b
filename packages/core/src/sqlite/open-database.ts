import { closeSync, mkdirSync, openSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { storeUnavailable } from "../errors.js";
import { migrate } from "./migrations.js";
import { SQLITE, sqliteCode } from "./sqlite-errors.js";

/** The path of a database in memory. */
export const IN_MEMORY = ":memory:";

/** How long opening waits for another process that writes. */
const OPEN_TIMEOUT_MS = 2_000;
/**
 * How long SQLite itself waits for another process's write, which blocks this process. Enough for
 * an ordinary write. `GroupCommit` waits longer without blocking reads.
 */
const BUSY_TIMEOUT_MS = 20;

/** Makes reads a fifth faster if the sessions do not fit in SQLite's default of 2 MB. */
const CACHE_SIZE_KIB = 64 * 1024;

/** The WAL file shrinks back to this size after it had to grow. */
const WAL_SIZE_LIMIT_BYTES = 64 * 1024 * 1024;

/**
 * Opens the database at `path` and brings it to the newest schema. Creates the file and its
 * directories if necessary, for the owner only. Throws STORE_UNAVAILABLE with the reason.
 */
export async function openDatabase(path: string): Promise<DatabaseSync> {
  // An absolute path, because SQLite would take "file:…" for a URI and "" for a temporary file.
  const file = path === IN_MEMORY ? IN_MEMORY : resolve(path);
  let db: DatabaseSync | undefined;
  try {
    if (file !== IN_MEMORY) createPrivately(file);
    db = new DatabaseSync(file, { timeout: OPEN_TIMEOUT_MS, enableForeignKeyConstraints: true });
    await configure(db);
    migrate(db);
    db.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    return db;
  } catch (error) {
    db?.close();
    const why = error instanceof Error ? error.message : String(error);
    throw storeUnavailable(`cannot open ${file}: ${why}`, error);
  }
}

/** Creates the file first: SQLite would make it readable for everyone. */
function createPrivately(file: string): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  closeSync(openSync(file, "a", 0o600));
}

async function configure(db: DatabaseSync): Promise<void> {
  // With a WAL, readers and the writer do not wait for each other, and a commit is one fsync.
  await retryWhileBusy(() => db.exec("PRAGMA journal_mode = WAL"));
  // Anything less could lose an acknowledged revocation in a power failure.
  db.exec("PRAGMA synchronous = FULL");
  db.exec(`PRAGMA journal_size_limit = ${WAL_SIZE_LIMIT_BYTES}`);
  // A negative number counts KiB, a positive one pages.
  db.exec(`PRAGMA cache_size = ${-CACHE_SIZE_KIB}`);
}

/** Switching to WAL is the only step for which SQLite does not wait for another process. */
async function retryWhileBusy(step: () => void): Promise<void> {
  const deadlineMs = performance.now() + OPEN_TIMEOUT_MS;
  for (;;) {
    try {
      return step();
    } catch (error) {
      if (sqliteCode(error) !== SQLITE.BUSY || performance.now() > deadlineMs) throw error;
      await sleep(10);
    }
  }
}
