import { randomBytes } from "node:crypto";
import { fstatSync, ftruncateSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { promisify } from "node:util";

const MIB = 1024 * 1024;

/**
 * The room that is kept: as much as the WAL holds before SQLite begins to move it into the file
 * (4 MB), and as much again three times. A revocation takes some hundred bytes of the file.
 */
export const RESERVE_BYTES = 16 * MIB;

/** A little is given up at first: who else fills the disk may take it before SQLite does. */
const LEAST_GIVEN_UP_BYTES = MIB / 16;
const PART_BYTES = MIB;

/** On a thread of its own. */
const randomBytesLater = promisify(randomBytes);

/**
 * A file beside a database that keeps room on the disk for what ends a session, a token or a lock.
 * All processes that share the database share it.
 */
export class DiskReserve {
  readonly #file: FileHandle;
  #sizeBytes: number;
  #isInUse = false;

  private constructor(file: FileHandle) {
    this.#file = file;
    this.#sizeBytes = this.#size();
  }

  /** Opens the reserve of a database, as it is. Creates an empty one if there is none. */
  static async open(databasePath: string): Promise<DiskReserve> {
    return new DiskReserve(await open(`${databasePath}-reserve`, "a+", 0o600));
  }

  /**
   * Whether some of it was given up because the disk is full, or cannot be built for this reason, as
   * of the last look. False while a new reserve is built.
   */
  get isInUse(): boolean {
    return this.#isInUse;
  }

  /** Looks what other processes have given up or rebuilt. */
  look(): void {
    const sizeBytes = this.#size();
    if (sizeBytes < this.#sizeBytes) this.#isInUse = true;
    if (sizeBytes >= RESERVE_BYTES) this.#isInUse = false;
    this.#sizeBytes = sizeBytes;
  }

  /**
   * Gives up a part, twice as much with each of several tries from 0 on. Answers whether there was
   * any left.
   */
  giveUp(tries: number): boolean {
    this.#isInUse = true;
    const sizeBytes = this.#size();
    if (sizeBytes === 0) return false;
    ftruncateSync(this.#file.fd, Math.max(0, sizeBytes - LEAST_GIVEN_UP_BYTES * 2 ** tries));
    this.look();
    return true;
  }

  /** Builds what is missing, as far as the disk has room. */
  async rebuild(): Promise<void> {
    try {
      for (this.look(); this.#sizeBytes < RESERVE_BYTES; this.look()) {
        const bytes = Math.min(PART_BYTES, RESERVE_BYTES - this.#sizeBytes);
        // Random, since some file systems give no room to what they can compress.
        await this.#file.write(await randomBytesLater(bytes));
      }
    } catch {
      this.#isInUse = true;
    }
  }

  /** Resolves when a write under way is done. */
  close(): Promise<void> {
    return this.#file.close();
  }

  #size(): number {
    return fstatSync(this.#file.fd).size;
  }
}
