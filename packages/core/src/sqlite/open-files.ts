import { type BigIntStats, statSync } from "node:fs";
import { storeUnavailable } from "../errors.js";

/**
 * The files of an open database. What is written to a file that was deleted is gone once the last
 * process has closed it, and processes that open the file later see nothing of it.
 */
const SUFFIXES = ["", "-wal", "-shm"];

/**
 * Notices that files of an open database were deleted or replaced. By device and inode, as SQLite
 * itself does for `SQLITE_FCNTL_HAS_MOVED`, which Node does not pass on.
 */
export class OpenFiles {
  readonly #path: string;
  readonly #identities: readonly string[];

  /** For a database that was opened just now: all its files exist. */
  constructor(path: string) {
    this.#path = path;
    this.#identities = this.#identify();
  }

  /** Throws STORE_UNAVAILABLE unless all files are in their places. Takes microseconds. */
  assertInPlace(): void {
    const found = this.#identify();
    if (this.#identities.every((identity, i) => identity === found[i])) return;
    // Callers and strangers read this too, so it does not say where the files are.
    throw storeUnavailable(
      "the database file was deleted or replaced while it was open: put it back, or restart the server",
    );
  }

  #identify(): readonly string[] {
    return SUFFIXES.map((suffix) => identify(`${this.#path}${suffix}`));
  }
}

function identify(path: string): string {
  const stats: BigIntStats | undefined = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stats === undefined ? "none" : `${stats.dev}:${stats.ino}`;
}
