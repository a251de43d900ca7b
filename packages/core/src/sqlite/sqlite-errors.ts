import { SessiondError, storeUnavailable } from "../errors.js";

/** The primary result codes of SQLite that mean "unavailable" (https://sqlite.org/rescode.html). */
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

/** The disk has no room for a larger index of the WAL, which no primary code says. */
const IOERR_SHMSIZE = 10 | (19 << 8);

/** Whether SQLite failed because the disk is full, or the file has reached its size limit. */
export function isFull(error: unknown): boolean {
  return sqliteCode(error) === SQLITE.FULL || extendedCode(error) === IOERR_SHMSIZE;
}

/** The primary result code of an error of SQLite. */
export function sqliteCode(error: unknown): number | undefined {
  const code = extendedCode(error);
  // The low byte of an extended code is the primary code.
  return code === undefined ? undefined : code & 0xff;
}

function extendedCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("errcode" in error)) return undefined;
  return typeof error.errcode === "number" ? error.errcode : undefined;
}

/**
 * STORE_UNAVAILABLE for an error of the file, the disk or another process. Any other error is a bug
 * of this package and stays as it is.
 */
export function toStoreError(error: unknown): unknown {
  if (error instanceof SessiondError || !UNAVAILABLE.has(sqliteCode(error))) return error;
  return storeUnavailable(error instanceof Error ? error.message : String(error), error);
}
