import { closeSync, openSync, rmSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { storeUnavailable } from "../errors.js";
import { DiskReserve } from "./disk-reserve.js";
import { migrate } from "./migrations.js";
import { OpenFiles } from "./open-files.js";
import { isFull, SQLITE, sqliteCode } from "./sqlite-errors.js";

/** The path of a database in memory. */
export const IN_MEMORY = ":memory:";

/** How long opening waits for another process that writes. */
const OPEN_TIMEOUT_MS = 2_000;
/** The pause between looks at what another process does. */
const OPEN_PAUSE_MS = 10;
/**
 * How long SQLite itself waits for another process's write, which blocks this process. Enough for
 * an ordinary write. `GroupCommit` waits longer without blocking reads.
 */
const BUSY_TIMEOUT_MS = 20;

/** Makes reads a fifth faster if the sessions do not fit in SQLite's default of 2 MB. */
const CACHE_SIZE_KIB = 64 * 1024;

/** The WAL file shrinks back to this size after it had to grow. */
const WAL_SIZE_LIMIT_BYTES = 64 * 1024 * 1024;

/** An open database. One in memory has no files. */
export interface OpenDatabase {
  readonly db: DatabaseSync;
  readonly files?: OpenFiles;
  readonly reserve?: DiskReserve;
}

/**
 * Opens the database at `path` and brings it to the newest schema. Creates the file if there is
 * none, for the owner only, in a folder that exists. Throws STORE_UNAVAILABLE with the reason.
 */
export async function openDatabase(path: string): Promise<OpenDatabase> {
  if (path === IN_MEMORY) return { db: await connect(path) };
  // An absolute path, because SQLite would take "file:…" for a URI and "" for a temporary file.
  const file = resolve(path);
  try {
    const isNew = createIfMissing(file);
    try {
      if (!isNew) await assertNotEmpty(file);
      const { db, reserve } = await connectWithRoom(file);
      return { db, reserve, files: new OpenFiles(file) };
    } catch (error) {
      if (isNew) rmSync(file, { force: true });
      throw error;
    }
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw storeUnavailable(`cannot open ${file}: ${why}`, error);
  }
}

/** Creates the file first: SQLite would make it readable for everyone. Answers whether it did. */
function createIfMissing(file: string): boolean {
  try {
    closeSync(openSync(file, "wx", 0o600));
    return true;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    // We make no folder: after a typo, a new and empty store would take the place of the old one.
    if (code === "ENOENT") throw new Error("its folder does not exist", { cause: error });
    if (code !== "EEXIST") throw error;
    return false;
  }
}

/** SQLite takes an empty file for a new database. Another process may be about to make one. */
async function assertNotEmpty(file: string): Promise<void> {
  const deadlineMs = performance.now() + OPEN_TIMEOUT_MS;
  while (statSync(file).size === 0) {
    if (performance.now() > deadlineMs) {
      throw new Error(
        "it is empty (0 bytes). If it was a store, put a backup in its place. " +
          "To begin a new store, delete it",
      );
    }
    await sleep(OPEN_PAUSE_MS);
  }
}

/** Connects, with room from the reserve if the disk is full. */
async function connectWithRoom(file: string) {
  let reserve: DiskReserve | undefined;
  for (let tries = 0; ; tries++) {
    try {
      const db = await connect(file);
      reserve ??= await DiskReserve.open(file);
      return { db, reserve };
    } catch (error) {
      if (isFull(error)) {
        reserve ??= await DiskReserve.open(file);
        if (reserve.giveUp(tries)) continue;
      }
      await reserve?.close();
      throw error;
    }
  }
}

async function connect(path: string): Promise<DatabaseSync> {
  const db = new DatabaseSync(path, {
    timeout: OPEN_TIMEOUT_MS,
    enableForeignKeyConstraints: true,
  });
  try {
    await configure(db);
    migrate(db);
    db.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
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
      await sleep(OPEN_PAUSE_MS);
    }
  }
}
