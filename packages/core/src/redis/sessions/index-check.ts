import type { Partition } from "../../sessions/session-id.js";
import { primariesOf } from "../connection/info.js";
import type { RedisCommands } from "../connection/redis-commands.js";
import type { SessionKeys } from "./session-keys.js";

/** About how many keys one part of the check reads. */
const KEYS_PER_PART = 500;
/** About how many entries of one index one part of the check reads. */
const ENTRIES_PER_KEY = 250;

/** A session to compare with the indexes, and the user whose index names it, if one does. */
export interface Suspect {
  readonly id: string;
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
      if (key.kind === "session") suspects.push({ id: key.id, isFound: true });
      else for (const id of await this.#entries(name)) suspects.push({ ...key, id });
    }
    let healed = 0;
    for (const { namespace, partition, suspects } of batches.values()) {
      healed += await this.#heal(namespace, partition, suspects);
      const ids = suspects.flatMap(({ id, isFound }) => (isFound ? [id] : []));
      healed += await this.#restore(namespace, partition, ids);
    }
    return healed;
  }

  /** The next keys of the primary that is being scanned. */
  async #scan(): Promise<readonly string[]> {
    return this.#commands.call(async (redis) => {
      const nodes = primariesOf(redis);
      const node = nodes[this.#node % nodes.length];
      if (node === undefined) return [];
      const [cursor, keys] = await node.scan(
        this.#cursor,
        "MATCH",
        this.#keys.pattern(),
        "COUNT",
        KEYS_PER_PART,
      );
      this.#cursor = cursor;
      if (cursor === "0") this.#node = (this.#node + 1) % nodes.length;
      return keys;
    });
  }

  /** The next ids in an index. */
  async #entries(key: string): Promise<readonly string[]> {
    const from = this.#entryCursors.get(key) ?? "0";
    const [cursor, idsAndScores] = await this.#commands.call((redis) =>
      redis.zscan(key, from, "COUNT", ENTRIES_PER_KEY),
    );
    if (cursor === "0") this.#entryCursors.delete(key);
    else this.#entryCursors.set(key, cursor);
    return idsAndScores.filter((_, i) => i % 2 === 0);
  }
}
