import { SessiondError, storeUnavailable } from "../errors.js";

/** SQLite's primary result codes (https://sqlite.org/rescode.html) that this package tells apart. */
export const SQLITE = {
  PERM: 3,
  BUSY: 5,
  LOCKED: 6,
  NOMEM: 7,
  READONLY: 8,
  IOERR: 10,
  CORRUPT: 11,
  FULL: 13,
  CANTOPEN: 14,
  PROTOCOL: 15,
  NOTADB: 26,
} as const;

const UNAVAILABLE: ReadonlySet<number | undefined> = new Set(Object.values(SQLITE));

/** The primary result code of an error that SQLite returned. */
export function sqliteCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("errcode" in error)) return undefined;
  // The low byte is the primary code; the others of an extended code say more.
  return typeof error.errcode === "number" ? error.errcode & 0xff : undefined;
}

/**
 * STORE_UNAVAILABLE for what comes from the file, the disk or another process.
 * Whatever else it is (a fault of this package) stays as it is.
 */
export function toStoreError(error: unknown): unknown {
  if (error instanceof SessiondError || !UNAVAILABLE.has(sqliteCode(error))) return error;
  return storeUnavailable(error instanceof Error ? error.message : String(error), error);
}
