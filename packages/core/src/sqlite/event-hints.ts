import type { DatabaseSync, StatementSync } from "node:sqlite";
import { firstColumn, prepare, type Statements } from "./statements.js";

/** How often we look for events of other processes. A look takes microseconds. */
const POLL_INTERVAL_MS = 50;

type Listener = () => void;

/** Tells readers of the events in a file that the log of their namespace may have grown. */
export class EventHints {
  readonly #db: DatabaseSync;
  readonly #statements: Statements;
  readonly #dataVersion: StatementSync;
  /** The listeners of each namespace. */
  readonly #listeners = new Map<string, Set<Listener>>();
  /** The namespaces whose listeners are to be told after the commit. */
  readonly #untold = new Set<string>();
  #poll: NodeJS.Timeout | undefined;
  /** Changes only when another connection commits. Undefined before the first look. */
  #seenDataVersion: unknown;
  /** The position of the newest event at the last look. */
  #seenPosition: unknown;

  constructor(db: DatabaseSync, statements: Statements) {
    this.#db = db;
    this.#statements = statements;
    this.#dataVersion = prepare(db, "PRAGMA data_version");
  }

  /** Calls `listener` after commits with events of the namespace. Answers how to unsubscribe. */
  subscribe(namespace: string, listener: Listener): () => void {
    if (!this.#db.isOpen) return () => {};
    // A new function, so that one listener may subscribe twice.
    const own = () => listener();
    const listeners = this.#listeners.get(namespace) ?? new Set();
    this.#listeners.set(namespace, listeners.add(own));
    this.#pollWhileNeeded();
    return () => {
      if (listeners.delete(own) && listeners.size === 0) this.#listeners.delete(namespace);
      this.#pollWhileNeeded();
    };
  }

  /** Notes an event of the namespace, within a transaction. */
  appended(namespace: string): void {
    this.#untold.add(namespace);
  }

  /** Tells the listeners of the noted events, once the transaction is committed. */
  committed(): void {
    if (this.#untold.size === 0) return;
    const namespaces = [...this.#untold];
    this.#untold.clear();
    // Later, so that a listener that throws does not fail the write.
    queueMicrotask(() => this.#tell(namespaces));
  }

  /** Ends all subscriptions. */
  close(): void {
    this.#listeners.clear();
    this.#pollWhileNeeded();
  }

  #tell(namespaces: Iterable<string>): void {
    for (const namespace of namespaces) {
      for (const listener of this.#listeners.get(namespace) ?? []) listener();
    }
  }

  #pollWhileNeeded(): void {
    if (this.#listeners.size === 0) {
      clearInterval(this.#poll);
      this.#poll = undefined;
    } else {
      this.#poll ??= setInterval(() => {
        if (this.#hasGrownElsewhere()) this.#tell(this.#listeners.keys());
      }, POLL_INTERVAL_MS).unref();
    }
  }

  #hasGrownElsewhere(): boolean {
    try {
      const dataVersion = firstColumn(this.#dataVersion.get());
      if (dataVersion === this.#seenDataVersion) return false;
      // Most writes of others are touches, which are no events.
      const position = firstColumn(this.#statements.lastPosition.get());
      const hasGrown = position !== this.#seenPosition;
      this.#seenDataVersion = dataVersion;
      this.#seenPosition = position;
      return hasGrown;
    } catch {
      // No caller waits for this. The next read of the log reports the error.
      return false;
    }
  }
}
