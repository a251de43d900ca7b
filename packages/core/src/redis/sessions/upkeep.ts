import { isNamespace } from "../../namespace.js";
import { PARTITIONS, type Partition } from "../../sessions/session-id.js";
import type { SweepResult } from "../../sessions/session-store.js";
import type { RedisCommands } from "../connection/redis-commands.js";
import type { ChosenIds } from "./chosen-ids.js";
import { IndexCheck, type Suspect } from "./index-check.js";
import type { PartitionScripts } from "./partition-scripts.js";
import type { SessionKeys } from "./session-keys.js";
import { FIND_WORK, HEAL, SWEEP } from "./upkeep-scripts.js";

/** How many sessions of a partition one run of the sweep script removes. */
const SWEEP_BATCH_SIZE = 100;
/** How many namespaces one script looks at, so that Redis soon serves other commands. */
const LOOK_BATCH_SIZE = 100;
/**
 * How many scripts one sweep runs. Enough for each partition of one namespace; with many namespaces
 * a round may take several sweeps.
 */
const MAX_SCRIPTS_PER_SWEEP = 1_000;

/** The keys of one namespace, and what runs on them. */
export interface NamespaceParts {
  readonly keys: SessionKeys;
  readonly scripts: PartitionScripts;
  readonly chosenIds: ChosenIds;
}

/** Where a round through all partitions continues. */
interface Round {
  readonly partition: number;
  /** The namespaces of this partition, as far as they are known. */
  readonly namespaces: readonly string[];
  /** Which of them is next. */
  readonly next: number;
  /** How many partitions are still to finish, this one included. */
  readonly partitionsLeft: number;
}

const FIRST = { namespaces: [""], next: 0 };

/**
 * Sweeps all namespaces and checks their indexes. Each partition knows the namespaces that have
 * something in it, and only those with work are visited.
 */
export class Upkeep {
  readonly #commands: RedisCommands;
  readonly #keys: SessionKeys;
  readonly #retentionMs: number;
  readonly #partsOf: (namespace: string) => NamespaceParts;
  readonly #indexCheck: IndexCheck;
  #round: Round = { ...FIRST, partition: 0, partitionsLeft: PARTITIONS.length };

  /** `keys` are those of any namespace. */
  constructor(
    commands: RedisCommands,
    keys: SessionKeys,
    retentionMs: number,
    partsOf: (namespace: string) => NamespaceParts,
  ) {
    this.#commands = commands;
    this.#keys = keys;
    this.#retentionMs = retentionMs;
    this.#partsOf = partsOf;
    this.#indexCheck = new IndexCheck(
      commands,
      keys,
      (...what) => this.#heal(...what),
      (namespace, ...what) => partsOf(namespace).chosenIds.restoreLost(...what),
    );
  }

  /** As `SessionStore.namespaces`. */
  async namespaces(): Promise<readonly string[]> {
    const sets = await Promise.all(
      PARTITIONS.map((partition) =>
        this.#commands.read("smembers", [this.#keys.namespaces(partition)]),
      ),
    );
    const names = new Set((sets as Buffer[][]).flatMap((set) => set.map(String)));
    return ["", ...[...names].filter(isNamespace).sort()];
  }

  /**
   * As `SessionStore.sweep`. Continues where the last sweep stopped, so that neither a busy
   * partition nor a busy namespace holds up the others.
   */
  async sweep(limit: number): Promise<SweepResult> {
    let expired = 0;
    let reclaimed = 0;
    let healed = await this.#indexCheck.checkSome();
    let round = this.#round;
    for (let scripts = 0; round.partitionsLeft > 0; scripts++) {
      if (reclaimed >= limit || scripts >= MAX_SCRIPTS_PER_SWEEP) {
        // At the limit there may be more behind us, too. So go all around, and back to this place.
        const partitionsLeft = reclaimed >= limit ? PARTITIONS.length + 1 : round.partitionsLeft;
        this.#round = { ...round, partitionsLeft };
        return { expired, reclaimed, healed, more: true };
      }
      const swept = await this.#sweepNext(round);
      expired += swept.expired;
      reclaimed += swept.reclaimed;
      healed += swept.healed;
      round = swept.round;
    }
    this.#round = { ...round, partitionsLeft: PARTITIONS.length };
    return { expired, reclaimed, healed, more: false };
  }

  async #sweepNext(round: Round) {
    const partition = PARTITIONS[round.partition] ?? "00";
    const namespace = round.namespaces[round.next] ?? "";
    const { keys, scripts, chosenIds } = this.#partsOf(namespace);
    const swept = await scripts.run(SWEEP, partition, {
      keys: { namespaces: keys.namespaces(partition) },
      args: { namespace, limit: SWEEP_BATCH_SIZE },
    });
    await chosenIds.releaseRemoved(partition, swept.removedIds, swept.timeMs);
    const others = await this.#withWork(partition, swept.otherNamespaces.filter(isNamespace));
    const namespaces = namespace === "" ? ["", ...others] : round.namespaces;
    return {
      expired: swept.expired,
      reclaimed: swept.removedIds.length,
      healed: swept.healed,
      round: swept.mayHaveMore ? { ...round, namespaces } : after({ ...round, namespaces }),
    };
  }

  /** The namespaces of a partition that have something to sweep. */
  async #withWork(partition: Partition, namespaces: readonly string[]): Promise<string[]> {
    const found: string[] = [];
    for (let i = 0; i < namespaces.length; i += LOOK_BATCH_SIZE) {
      const batch = namespaces.slice(i, i + LOOK_BATCH_SIZE);
      const moreKeys = batch.flatMap((name) => {
        const { keys } = this.#partsOf(name);
        const indexes = [keys.sessions(partition), keys.sessionsByCreateTime(partition)];
        return [...indexes, keys.sessionEvents(partition)];
      });
      const call = { keys: {}, args: { retentionMs: this.#retentionMs }, moreKeys };
      const hasWork = await this.#commands.runRead(FIND_WORK, call);
      found.push(...batch.filter((_, n) => hasWork[n]));
    }
    return found;
  }

  #heal(namespace: string, partition: Partition, suspects: readonly Suspect[]): Promise<number> {
    const { keys, scripts } = this.#partsOf(namespace);
    return scripts.run(HEAL, partition, {
      keys: { namespaces: keys.namespaces(partition) },
      args: { namespace },
      moreArgs: suspects.flatMap(({ storedId, userId = "" }) => [storedId, userId]),
    });
  }
}

/** The round once its next namespace is done. */
function after({ partition, namespaces, next, partitionsLeft }: Round): Round {
  if (next + 1 < namespaces.length)
    return { partition, namespaces, next: next + 1, partitionsLeft };
  return {
    ...FIRST,
    partition: (partition + 1) % PARTITIONS.length,
    partitionsLeft: partitionsLeft - 1,
  };
}
