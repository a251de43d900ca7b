import type { HeldLock, LockStore, OccupiedLock } from "../../locks/lock-store.js";
import { HintChannel } from "../connection/hint-channel.js";
import type { Argument, RedisCommands } from "../connection/redis-commands.js";
import type { Script } from "../sessions/scripts.js";
import { ACQUIRE_LOCK, GET_LOCK, RELEASE_LOCK, RENEW_LOCK } from "./lock-scripts.js";

/** What a `RedisLockStore` is made of. */
export interface RedisLockStoreOptions {
  /** The connection; whoever opened it closes it. */
  readonly commands: RedisCommands;
  /** What every key starts with; must contain no `{`. Nothing by default. */
  readonly keyPrefix?: string | undefined;
  /**
   * The clock, in ms since the Unix epoch. By default the time of Redis, so that
   * servers whose clocks disagree decide alike; tests bring one they can move.
   */
  readonly now?: (() => number) | undefined;
}

type LeaseReply = readonly [fencingToken: Buffer, expireTime: Buffer, now: Buffer];
type AcquireReply = readonly [isAcquired: number, ...LeaseReply];

/**
 * Locks in Redis 7 or newer: standalone, behind Sentinel, or a Cluster. Each call is
 * one script. A failover may lose the last acquisitions: what they protect is kept
 * safe by fencing tokens, which grow all the same.
 */
export class RedisLockStore implements LockStore {
  readonly #commands: RedisCommands;
  readonly #prefix: string;
  readonly #now: (() => number) | undefined;
  readonly #channel: string;
  readonly #hints: HintChannel;

  constructor(options: RedisLockStoreOptions) {
    this.#commands = options.commands;
    this.#prefix = options.keyPrefix ?? "";
    this.#now = options.now;
    this.#channel = `${this.#prefix}lock_released`;
    this.#hints = new HintChannel(options.commands, this.#channel);
  }

  async acquire(
    name: string,
    lockId: string,
    ttlMs: number,
    queueForMs = 0,
  ): Promise<HeldLock | OccupiedLock> {
    const reply = await this.#run(ACQUIRE_LOCK, name, lockId, ttlMs, queueForMs);
    const [isAcquired, ...lease] = reply as AcquireReply;
    if (isAcquired === 1) return toHeldLock(name, lease);
    const [, expireTime, now] = lease;
    return { occupied: true, expireTimeMs: Number(expireTime), readTimeMs: Number(now) };
  }

  async renew(name: string, lockId: string, ttlMs: number): Promise<HeldLock | undefined> {
    const reply = await this.#run(RENEW_LOCK, name, lockId, ttlMs);
    return reply === null ? undefined : toHeldLock(name, reply as LeaseReply);
  }

  async release(name: string, lockId: string): Promise<boolean> {
    return (await this.#run(RELEASE_LOCK, name, lockId, this.#channel, name)) === 1;
  }

  async get(name: string, lockId = ""): Promise<HeldLock | undefined> {
    const reply = await this.#run(GET_LOCK, name, lockId);
    return reply === null ? undefined : toHeldLock(name, reply as LeaseReply);
  }

  onRelease(listener: (name: string) => void): () => void {
    return this.#hints.subscribe(listener);
  }

  /** Lets go of the connection that listens. */
  close(): void {
    this.#hints.close();
  }

  #run(
    script: Script,
    name: string,
    lockId: string,
    ...args: readonly Argument[]
  ): Promise<unknown> {
    const tag = hashTag(name);
    const keys = ["lock", "lock_fence", "lock_queue"].map((key) => `${this.#prefix}${key}:${tag}`);
    return this.#commands.eval(script, keys, [this.#now?.() ?? "", lockId, ...args]);
  }
}

/**
 * A name as a cluster's hash tag. Redis takes the tag to end at the first brace that
 * closes, and one that is empty for none: the keys of a lock would be in different slots.
 */
function hashTag(name: string): string {
  return `{${name.replace(/[%}]/g, encodeURIComponent)}}`;
}

function toHeldLock(name: string, [fencingToken, expireTime, now]: LeaseReply): HeldLock {
  return {
    name,
    fencingToken: Number(fencingToken),
    expireTimeMs: Number(expireTime),
    readTimeMs: Number(now),
  };
}
