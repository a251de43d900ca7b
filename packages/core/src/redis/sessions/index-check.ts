import type { Partition } from "../../sessions/session-id.js";
import { primariesOf } from "../connection/info.js";
import type { RedisCommands } from "../connection/redis-commands.js";
import type { SessionKeys } from "./session-keys.js";
import { fromStoredId } from "./stored-id.js";

/** About how many keys one part of the check reads. */
const KEYS_PER_PART = 500;
/** About how many entries of one index one part of the check reads. */
const ENTRIES_PER_KEY = 250;

/** A session to compare with the indexes, and the user whose index names it, if one does. */
export interface Suspect {
  readonly storedId: Buffer;
  readonly userId?: string;
  /** Whether the check found the session itself, and not an entry of an index. */
  readonly isFound?: boolean;
}

/** Compares sessions with the indexes and corrects these. Answers how many entries it corrected. */
export type Heal = (
  namespace: string,
  partition: Partition,
  suspects: readonly Suspect[],
) => Promise<number>;

/** What is checked by one script. */
interface Batch {
  readonly namespace: string;
  readonly partition: Partition;
  readonly suspects: Suspect[];
}

/** Restores what is missing for the ids of existing sessions. Answers for how many it did. */
export type Restore = (
  namespace: string,
  partition: Partition,
  ids: readonly string[],
) => Promise<number>;

/**
 * Scans all keys of all namespaces, a part at a time and without end, for sessions with wrong index
 * entries or a lost claim on their chosen id, and for index entries without a session. Scripts leave
 * neither, but an evicted or deleted key does.
 */
export class IndexCheck {
  readonly #commands: RedisCommands;
  readonly #keys: SessionKeys;
  readonly #heal: Heal;
  readonly #restore: Restore;
  /** The primary that is being scanned, and the position in it. */
  #node = 0;
  #cursor = "0";
  /** The position in each large index, by key. */
  readonly #entryCursors = new Map<string, string>();

  constructor(commands: RedisCommands, keys: SessionKeys, heal: Heal, restore: Restore) {
    this.#commands = commands;
    this.#keys = keys;
    this.#heal = heal;
    this.#restore = restore;
  }

  /** Checks the next part. Answers how many index entries it corrected. */
  async checkSome(): Promise<number> {
    const batches = new Map<string, Batch>();
    for (const name of await this.#scan()) {
      const key = this.#keys.parse(name);
      if (key === undefined) continue;
      const { namespace, partition } = key;
      const place = `${namespace} ${partition}`;
      const batch = batches.get(place) ?? { namespace, partition, suspects: [] };
      batches.set(place, batch);
      const { suspects } = batch;
      if (key.kind === "session") suspects.push({ storedId: key.storedId, isFound: true });
      else for (const storedId of await this.#entries(name)) suspects.push({ ...key, storedId });
    }
    let healed = 0;
    for (const { namespace, partition, suspects } of batches.values()) {
      healed += await this.#heal(namespace, partition, suspects);
      const found = suspects.filter(({ isFound }) => isFound);
      const ids = found.map(({ storedId }) => fromStoredId(storedId));
      healed += await this.#restore(namespace, partition, ids);
    }
    return healed;
  }

  /** The next keys of the primary that is being scanned. */
  async #scan(): Promise<readonly Buffer[]> {
    return this.#commands.call(async (redis) => {
      const nodes = primariesOf(redis);
      const node = nodes[this.#node % nodes.length];
      if (node === undefined) return [];
      const [cursor, keys] = await node.scanBuffer(
        this.#cursor,
        "MATCH",
        this.#keys.pattern(),
        "COUNT",
        KEYS_PER_PART,
      );
      this.#cursor = String(cursor);
      if (this.#cursor === "0") this.#node = (this.#node + 1) % nodes.length;
      return keys;
    });
  }

  /** The next ids in an index. */
  async #entries(key: Buffer): Promise<readonly Buffer[]> {
    const name = key.toString("latin1");
    const from = this.#entryCursors.get(name) ?? "0";
    const [cursor, idsAndScores] = await this.#commands.call((redis) =>
      redis.zscanBuffer(key, from, "COUNT", ENTRIES_PER_KEY),
    );
    if (String(cursor) === "0") this.#entryCursors.delete(name);
    else this.#entryCursors.set(name, String(cursor));
    return idsAndScores.filter((_, i) => i % 2 === 0);
  }
}
