import { statSync } from "node:fs";
import { resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { pathToFileURL } from "node:url";
import { SessiondError, storeUnavailable } from "../errors.js";
import { assertOurs } from "./migrations.js";
import type { OpenDatabase } from "./open-database.js";

/** The `detail` of the error about a file that a server must migrate first. */
export const OLD_SCHEMA = "old_schema";

/**
 * Opens an existing file without changing it or its folder: every write fails. Throws
 * STORE_UNAVAILABLE with the reason; its detail is `OLD_SCHEMA` if only a migration is missing.
 */
export function openReadOnly(path: string): OpenDatabase {
  const file = resolve(path);
  let db: DatabaseSync | undefined;
  try {
    if (statSync(file).size === 0) throw new Error("it is empty (0 bytes)");
    db = new DatabaseSync(locationOf(file), { readOnly: true });
    const missing = assertOurs(db);
    if (missing > 0) {
      const message = `${file} has the schema of an older version of sessiond`;
      throw new SessiondError("STORE_UNAVAILABLE", message, { detail: OLD_SCHEMA });
    }
    return { db };
  } catch (error) {
    db?.close();
    if (error instanceof SessiondError) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw storeUnavailable(`cannot open ${file}: ${why}`, error);
  }
}

/**
 * Even a reader makes a WAL where there is none, and would leave it behind. Without a WAL no server
 * has the file open, so we may tell SQLite that nobody changes it (https://sqlite.org/wal.html,
 * "Read-Only Databases").
 */
function locationOf(file: string): string | URL {
  if (statSync(`${file}-wal`, { throwIfNoEntry: false }) !== undefined) return file;
  const url = pathToFileURL(file);
  url.searchParams.set("immutable", "1");
  return url;
}
