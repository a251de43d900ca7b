import type { Cluster, Redis } from "ioredis";
import { untilReady } from "./connection-state.js";

const RESUBSCRIBE_DELAY_MS = 1_000;

interface Listener {
  readonly onHint: (hint: string) => void;
  readonly onConnected: () => void;
}

/**
 * Pub/Sub channels for hints between servers. All share one connection, which exists only while
 * there are listeners. They miss hints while it is not open, and all hints of a channel to which
 * the Redis user may not subscribe.
 */
export class HintChannels {
  readonly #open: () => Redis | Cluster;
  readonly #channels = new Map<string, Set<Listener>>();
  #connection: Redis | Cluster | undefined;
  #isClosed = false;

  /** `open` opens the connection. `close` closes it. */
  constructor(open: () => Redis | Cluster) {
    this.#open = open;
  }

  /**
   * Calls `onHint` with each hint on a channel, and `onConnected` after each time that hints may
   * have been missed. Answers a function that unsubscribes.
   */
  subscribe(
    channel: string,
    onHint: (hint: string) => void,
    onConnected: () => void = () => {},
  ): () => void {
    if (this.#isClosed) return () => {};
    const own: Listener = { onHint, onConnected };
    const listeners = this.#channels.get(channel) ?? new Set();
    listeners.add(own);
    if (listeners.size === 1) {
      this.#channels.set(channel, listeners);
      void this.#listen(channel, listeners);
    }
    return () => this.#leave(channel, listeners, own);
  }

  close(): void {
    this.#isClosed = true;
    this.#channels.clear();
    this.#disconnect();
  }

  /** Subscribes to a channel, and tries again until it has or until all its listeners are gone. */
  async #listen(channel: string, listeners: ReadonlySet<Listener>): Promise<void> {
    if (this.#channels.get(channel) !== listeners) return;
    this.#connection ??= this.#connect();
    const connection = this.#connection;
    try {
      await untilReady(connection);
      if (this.#channels.get(channel) !== listeners) return;
      await connection.subscribe(channel);
      for (const { onConnected } of listeners) onConnected();
    } catch {
      setTimeout(() => void this.#listen(channel, listeners), RESUBSCRIBE_DELAY_MS).unref();
    }
  }

  #leave(channel: string, listeners: Set<Listener>, own: Listener): void {
    listeners.delete(own);
    if (listeners.size > 0 || this.#channels.get(channel) !== listeners) return;
    this.#channels.delete(channel);
    if (this.#channels.size === 0) this.#disconnect();
    // If it fails, the hints find no listeners.
    else this.#connection?.unsubscribe(channel).catch(() => {});
  }

  #connect(): Redis | Cluster {
    const connection = this.#open();
    connection.on("message", (channel: string, hint: string) => {
      for (const { onHint } of this.#channels.get(channel) ?? []) onHint(hint);
    });
    void untilReady(connection).then(() => {
      // From the second time on: ioredis then subscribes again by itself.
      connection.on("ready", () => {
        for (const listeners of this.#channels.values()) {
          for (const { onConnected } of listeners) onConnected();
        }
      });
    });
    return connection;
  }

  #disconnect(): void {
    this.#connection?.disconnect();
    this.#connection = undefined;
  }
}
