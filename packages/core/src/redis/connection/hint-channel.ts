import type { Cluster, Redis } from "ioredis";
import { untilReady } from "./connection-state.js";
import type { RedisCommands } from "./redis-commands.js";

const RESUBSCRIBE_DELAY_MS = 1_000;

interface Listener {
  readonly onHint: (hint: string) => void;
  readonly onConnected: () => void;
}

/**
 * A Pub/Sub channel for hints between servers. Its connection exists only while there are
 * listeners. They miss hints while it is not open, and all hints if the Redis user may not
 * subscribe.
 */
export class HintChannel {
  readonly #commands: RedisCommands;
  readonly #name: string;
  readonly #listeners = new Set<Listener>();
  #subscriber: Redis | Cluster | undefined;

  constructor(commands: RedisCommands, name: string) {
    this.#commands = commands;
    this.#name = name;
  }

  /**
   * Calls `onHint` with each hint, and `onConnected` after each time that hints may have been
   * missed. Answers a function that unsubscribes.
   */
  subscribe(onHint: (hint: string) => void, onConnected: () => void = () => {}): () => void {
    if (this.#commands.isClosed) return () => {};
    const own: Listener = { onHint, onConnected };
    this.#listeners.add(own);
    this.#subscriber ??= this.#open();
    return () => {
      this.#listeners.delete(own);
      if (this.#listeners.size === 0) this.close();
    };
  }

  close(): void {
    this.#subscriber?.disconnect();
    this.#subscriber = undefined;
  }

  #open(): Redis | Cluster {
    const subscriber = this.#commands.openAnother();
    subscriber.on("message", (_name: string, hint: string) => {
      for (const { onHint } of this.#listeners) onHint(hint);
    });
    const tellConnected = () => {
      for (const { onConnected } of this.#listeners) onConnected();
    };
    void untilReady(subscriber)
      .then(() => subscriber.subscribe(this.#name))
      .then(() => {
        // ioredis subscribes again by itself after it has reconnected.
        subscriber.on("ready", tellConnected);
        tellConnected();
      })
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
