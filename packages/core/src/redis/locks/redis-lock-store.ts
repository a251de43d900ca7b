import type { HeldLock, LockStore, OccupiedLock } from "../../locks/lock-store.js";
import { keyPrefixOf } from "../connection/key-prefix.js";
import type { RedisCommands } from "../connection/redis-commands.js";
import {
  ACQUIRE_LOCK,
  GET_LOCK,
  type LeaseReply,
  RELEASE_LOCK,
  RENEW_LOCK,
} from "./lock-scripts.js";

/** Options of `RedisLockStore`. */
export interface RedisLockStoreOptions {
  /** The connections and the clock. The opener closes them. */
  readonly commands: RedisCommands;
  /** The prefix of every key, without `{`. Empty by default. */
  readonly keyPrefix?: string | undefined;
}

/**
 * Locks in Redis 7 or newer: standalone, behind Sentinel, or a Cluster. Each call is one script. A
 * failover may lose the last acquisitions, but fencing tokens keep growing.
 */
export class RedisLockStore implements LockStore {
  readonly #options: RedisLockStoreOptions;
  readonly #commands: RedisCommands;
  readonly #prefix: string;
  readonly #channel: string;

  constructor(options: RedisLockStoreOptions, namespace = "") {
    this.#options = options;
    this.#commands = options.commands;
    this.#prefix = keyPrefixOf(options.keyPrefix ?? "", namespace);
    this.#channel = `${this.#prefix}lock_released`;
  }

  namespace(name: string): RedisLockStore {
    return new RedisLockStore(this.#options, name);
  }

  async acquire(
    name: string,
    lockId: string,
    ttlMs: number,
    queueForMs = 0,
  ): Promise<HeldLock | OccupiedLock> {
    const keys = this.#keys(name);
    const { isAcquired, ...lease } = await this.#commands.run(ACQUIRE_LOCK, {
      keys,
      args: { lockId, ttlMs, queueForMs },
    });
    if (isAcquired) return toHeldLock(name, lease);
    return { occupied: true, expireTimeMs: lease.expireTimeMs, readTimeMs: lease.timeMs };
  }

  async renew(name: string, lockId: string, ttlMs: number): Promise<HeldLock | undefined> {
    const keys = this.#keys(name);
    const lease = await this.#commands.run(RENEW_LOCK, { keys, args: { lockId, ttlMs } });
    return lease && toHeldLock(name, lease);
  }

  release(name: string, lockId: string): Promise<boolean> {
    const args = { lockId, channel: this.#channel, name };
    return this.#commands.run(RELEASE_LOCK, { keys: this.#keys(name), args });
  }

  async get(name: string, lockId = ""): Promise<HeldLock | undefined> {
    const lease = await this.#commands.run(GET_LOCK, { keys: this.#keys(name), args: { lockId } });
    return lease && toHeldLock(name, lease);
  }

  onRelease(listener: (name: string) => void): () => void {
    return this.#commands.hints.subscribe(this.#channel, listener);
  }

  #keys(name: string): Record<"lock" | "fence" | "queue", string> {
    const tag = hashTag(name);
    return {
      lock: `${this.#prefix}lock:${tag}`,
      fence: `${this.#prefix}lock_fence:${tag}`,
      queue: `${this.#prefix}lock_queue:${tag}`,
    };
  }
}

/**
 * A name as a hash tag. A tag ends at its first closing brace, so an unescaped brace could put the
 * keys of a lock in different slots.
 */
function hashTag(name: string): string {
  return `{${name.replace(/[%}]/g, encodeURIComponent)}}`;
}

function toHeldLock(name: string, { timeMs, ...lease }: LeaseReply): HeldLock {
  return { name, ...lease, readTimeMs: timeMs };
}
