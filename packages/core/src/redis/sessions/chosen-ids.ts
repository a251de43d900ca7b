import { randomBytes } from "node:crypto";
import { sessionAlreadyExists } from "../../errors.js";
import { isGeneratedId, type Partition } from "../../sessions/session-id.js";
import type { NewSession, SessionKey } from "../../sessions/session-store.js";
import type { RedisCommands } from "../connection/redis-commands.js";
import { RECLAIM_SLACK_MS } from "../connection/script.js";
import { CLAIM_ID, RELEASE_CLAIM } from "./claim-scripts.js";
import type { SessionKeys } from "./session-keys.js";
import { toStoredSession } from "./stored-session.js";

/**
 * A claim of this age without a session counts as abandoned. Its maker must create the session
 * within half of this time. The other half is for differences between the clocks of cluster nodes.
 */
const CLAIM_GRACE_MS = 10_000;
/** How often we try to claim an id that others claim at the same time. */
const MAX_CLAIM_ATTEMPTS = 5;

/** A claim on a chosen id, as `CLAIM_ID` writes it. */
export interface IdClaim {
  readonly text: string;
  readonly partition: Partition;
  readonly timeMs: number;
  /** The session must be created before this time. */
  readonly lapseTimeMs: number;
}

/** A claim that this server made. */
export interface OwnClaim extends IdClaim {
  /**
   * Whether the partition had none before. If it had, there may be a session, or another call may
   * be creating it: then the claim must stay, even if this call fails.
   */
  readonly isNew: boolean;
}

/**
 * Keeps chosen ids unique across users. Users are in different slots, so an id is claimed for a
 * partition before the session is created.
 */
export class ChosenIds {
  readonly #commands: RedisCommands;
  readonly #keys: SessionKeys;
  readonly #retentionMs: number;

  constructor(commands: RedisCommands, keys: SessionKeys, retentionMs: number) {
    this.#commands = commands;
    this.#keys = keys;
    this.#retentionMs = retentionMs;
  }

  /** The partition of the id, if a session with this id exists. */
  async partitionOf(id: string): Promise<Partition | undefined> {
    const claim = await this.#commands.read("get", [this.#keys.sessionRef(id)]);
    return claim === null ? undefined : parseClaim(String(claim)).partition;
  }

  /**
   * Claims the id, or throws SESSION_ALREADY_EXISTS. With `isReplicated`, it throws
   * STORE_UNAVAILABLE if no replica confirms the claim in time.
   */
  async claim({ key, lifetimeMs }: NewSession, isReplicated: boolean): Promise<OwnClaim> {
    const ref = this.#keys.sessionRef(key.id);
    const ttlMs = lifetimeMs + this.#retentionMs + RECLAIM_SLACK_MS;
    const nonce = randomBytes(6).toString("base64url");
    let abandoned = "";
    for (let attempt = 0; attempt < MAX_CLAIM_ATTEMPTS; attempt++) {
      const call = { keys: { ref }, args: { partition: key.partition, ttlMs, nonce, abandoned } };
      const { isClaimed, isNew, ...reply } = await this.#commands.run(CLAIM_ID, call, isReplicated);
      const claim = parseClaim(reply.claim);
      if (isClaimed) return { ...claim, isNew };

      if (reply.timeMs - claim.timeMs < CLAIM_GRACE_MS) throw sessionAlreadyExists();
      const holder = this.#keys.session({ partition: claim.partition, id: key.id });
      if (await this.#commands.call((redis) => redis.exists(holder))) throw sessionAlreadyExists();
      abandoned = claim.text;
    }
    throw sessionAlreadyExists();
  }

  /** Releases an id, unless there is a newer claim. */
  async release(id: string, claim: IdClaim): Promise<void> {
    const keys = { ref: this.#keys.sessionRef(id) };
    await this.#commands.run(RELEASE_CLAIM, { keys, args: { claim: claim.text } });
  }

  /**
   * Restores lost claims on the chosen ids among the ids of a partition's sessions. Answers how
   * many. Without its claim, nothing finds a session by its id.
   */
  async restoreLost(partition: Partition, ids: readonly string[]): Promise<number> {
    const chosen = ids.filter((id) => !isGeneratedId(id));
    const restored = await Promise.all(chosen.map((id) => this.#restoreIfLost({ partition, id })));
    return restored.filter(Boolean).length;
  }

  async #restoreIfLost(key: SessionKey): Promise<boolean> {
    const ref = this.#keys.sessionRef(key.id);
    if ((await this.#commands.read("exists", [ref])) === 1) return false;
    const bytes = await this.#commands.get(this.#keys.session(key));
    const session = bytes === null ? undefined : toStoredSession(key.id, bytes, 0);
    if (session === undefined) return false;
    const keptUntilMs = session.absoluteExpireTimeMs + this.#retentionMs + RECLAIM_SLACK_MS;
    // As old as its session: should the session be removed meanwhile, the claim counts as abandoned.
    const claim = `${key.partition} ${session.createTimeMs} restored`;
    return this.#commands.call(
      async (redis) => (await redis.set(ref, claim, "PXAT", keptUntilMs, "NX")) === "OK",
    );
  }

  /** Releases the chosen ids among the ids of sessions that were removed from a partition. */
  async releaseRemoved(partition: Partition, ids: readonly string[], nowMs: number): Promise<void> {
    await Promise.all(
      ids.map(async (id) => {
        if (isGeneratedId(id)) return;
        const text = await this.#commands.read("get", [this.#keys.sessionRef(id)]);
        const claim = text === null ? undefined : parseClaim(String(text));
        // A younger claim may belong to a new session that is being created.
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
