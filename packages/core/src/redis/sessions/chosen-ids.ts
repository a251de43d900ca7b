import { randomBytes } from "node:crypto";
import { sessionAlreadyExists } from "../../errors.js";
import { isGeneratedId, type Partition } from "../../sessions/session-id.js";
import type { NewSession } from "../../sessions/session-store.js";
import type { RedisCommands } from "../connection/redis-commands.js";
import { RECLAIM_SLACK_MS } from "../connection/script.js";
import { CLAIM_ID, RELEASE_CLAIM } from "./claim-scripts.js";
import type { SessionKeys } from "./session-keys.js";

/**
 * How old another user's claim on an id must be, with no session to show for it,
 * to be taken for abandoned. Whoever made the claim must be done within half of
 * it, so that clocks of cluster nodes may differ by the other half.
 */
const CLAIM_GRACE_MS = 10_000;
/** How often an id that is being claimed by others at the same time is tried for. */
const MAX_CLAIM_ATTEMPTS = 5;

/** A claim on a chosen id, as `CLAIM_ID` writes it. */
export interface IdClaim {
  readonly text: string;
  readonly partition: Partition;
  readonly timeMs: number;
  /** When creating the session must have happened, or not happen any more. */
  readonly lapseTimeMs: number;
}

/**
 * Keeps the ids that callers choose unique across users, whose sessions are in
 * different slots: an id is claimed for a partition before the session is made.
 */
export class ChosenIds {
  readonly #commands: RedisCommands;
  readonly #keys: SessionKeys;
  readonly #retentionMs: number;

  constructor(options: {
    readonly commands: RedisCommands;
    readonly keys: SessionKeys;
    readonly retentionMs: number;
  }) {
    this.#commands = options.commands;
    this.#keys = options.keys;
    this.#retentionMs = options.retentionMs;
  }

  /** The partition that the id lives in, if any session with it exists. */
  async partitionOf(id: string): Promise<Partition | undefined> {
    const value = await this.#commands.call((redis) => redis.get(this.#keys.sessionRef(id)));
    return value?.slice(0, 2);
  }

  /** Makes sure that nobody else has the id, or throws SESSION_ALREADY_EXISTS. */
  async claim({ key, lifetimeMs }: NewSession): Promise<IdClaim> {
    const ref = this.#keys.sessionRef(key.id);
    const ttlMs = lifetimeMs + this.#retentionMs + RECLAIM_SLACK_MS;
    const nonce = randomBytes(6).toString("base64url");
    let abandoned = "";
    for (let attempt = 0; attempt < MAX_CLAIM_ATTEMPTS; attempt++) {
      const { isClaimed, ...reply } = await this.#commands.run(CLAIM_ID, {
        keys: { ref },
        args: { partition: key.partition, ttlMs, nonce, abandoned },
      });
      const claim = parseClaim(reply.claim);
      if (isClaimed) return claim;

      if (reply.timeMs - claim.timeMs < CLAIM_GRACE_MS) throw sessionAlreadyExists();
      const holder = this.#keys.session({ partition: claim.partition, id: key.id });
      if (await this.#commands.call((redis) => redis.exists(holder))) throw sessionAlreadyExists();
      abandoned = claim.text;
    }
    throw sessionAlreadyExists();
  }

  /** Gives back an id, unless somebody has claimed it anew. */
  async release(id: string, claim: IdClaim): Promise<void> {
    const keys = { ref: this.#keys.sessionRef(id) };
    await this.#commands.run(RELEASE_CLAIM, { keys, args: { claim: claim.text } });
  }

  /** Gives back those of the ids of sessions removed from a partition that callers chose. */
  async releaseRemoved(partition: Partition, ids: readonly string[], nowMs: number): Promise<void> {
    await Promise.all(
      ids.map(async (id) => {
        if (isGeneratedId(id)) return;
        const text = await this.#commands.read("get", [this.#keys.sessionRef(id)]);
        const claim = text === null ? undefined : parseClaim(String(text));
        // A younger claim may be that of a new session under way.
        if (claim?.partition !== partition || nowMs - claim.timeMs < CLAIM_GRACE_MS) return;
        await this.release(id, claim);
      }),
    );
  }
}

function parseClaim(text: string): IdClaim {
  const [partition = "", time] = text.split(" ");
  const timeMs = Number(time);
  return { text, partition, timeMs, lapseTimeMs: timeMs + CLAIM_GRACE_MS / 2 };
}
