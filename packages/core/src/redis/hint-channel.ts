import type { Cluster, Redis } from "ioredis";
import { untilReady } from "./connection-state.js";
import type { RedisCommands } from "./redis-commands.js";

/** How soon subscribing is tried again. */
const RESUBSCRIBE_DELAY_MS = 1_000;

/**
 * A Pub/Sub channel on which servers give each other hints, on a connection that
 * exists only while anybody listens. What is sent while it is being made is missed, and
 * all of it where the user of Redis may not subscribe.
 */
export class HintChannel {
  readonly #commands: RedisCommands;
  readonly #name: string;
  readonly #listeners = new Set<(hint: string) => void>();
  #subscriber: Redis | Cluster | undefined;

  constructor(commands: RedisCommands, name: string) {
    this.#commands = commands;
    this.#name = name;
  }

  /** Calls `listener` with what is sent. Answers how to stop. */
  subscribe(listener: (hint: string) => void): () => void {
    if (this.#commands.isClosed) return () => {};
    // Wrapped, so that one function may listen twice.
    const own = (hint: string) => listener(hint);
    this.#listeners.add(own);
    this.#subscriber ??= this.#open();
    return () => {
      this.#listeners.delete(own);
      if (this.#listeners.size === 0) this.close();
    };
  }

  /** Lets go of the connection. */
  close(): void {
    this.#subscriber?.disconnect();
    this.#subscriber = undefined;
  }

  #open(): Redis | Cluster {
    const subscriber = this.#commands.openAnother();
    subscriber.on("message", (_name: string, hint: string) => {
      for (const listener of this.#listeners) listener(hint);
    });
    // ioredis subscribes again by itself after it has reconnected.
    void untilReady(subscriber)
      .then(() => subscriber.subscribe(this.#name))
      .catch(() => {
        subscriber.disconnect();
        setTimeout(() => this.#reopen(subscriber), RESUBSCRIBE_DELAY_MS).unref();
      });
    return subscriber;
  }

  #reopen(failed: Redis | Cluster): void {
    if (this.#subscriber === failed && !this.#commands.isClosed) this.#subscriber = this.#open();
  }
}
