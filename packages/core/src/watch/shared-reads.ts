import type { EventCursor, EventLog, EventPage } from "./session-event.js";

/** How many reads of whole logs run at a time. Each asks for hundreds of lanes on Redis. */
const MAX_READS = 4;

/**
 * Reads a log for many watches that begin together, as all do when a server starts: who asks for the
 * same while it is being read waits for one more read, which all of them share. An answer is never
 * older than its question.
 */
export class SharedReads {
  readonly #events: EventLog;
  readonly #ends: Shared<EventCursor>;
  readonly #pages = new WeakMap<EventCursor, Shared<EventPage | "lost">>();
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(events: EventLog) {
    this.#events = events;
    this.#ends = new Shared(() => this.#inTurn(() => events.end()));
  }

  /** As `EventLog.end`. The same cursor for all who share it. */
  end(userId: string | undefined): Promise<EventCursor> {
    return userId === undefined ? this.#ends.read() : this.#events.end(userId);
  }

  /** As `EventLog.read`. */
  read(cursor: EventCursor, limit: number): Promise<EventPage | "lost"> {
    if (cursor.size === 1) return this.#events.read(cursor, limit);
    let pages = this.#pages.get(cursor);
    if (pages === undefined) {
      pages = new Shared(() => this.#inTurn(() => this.#events.read(cursor, limit)));
      this.#pages.set(cursor, pages);
    }
    return pages.read();
  }

  async #inTurn<T>(read: () => Promise<T>): Promise<T> {
    if (this.#running >= MAX_READS) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#running++;
    }
    try {
      return await read();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }
}

/** One read at a time, and at most one that waits for it. */
class Shared<T> {
  readonly #readNow: () => Promise<T>;
  #current: Promise<T> | undefined;
  #next: Promise<T> | undefined;

  constructor(readNow: () => Promise<T>) {
    this.#readNow = readNow;
  }

  read(): Promise<T> {
    if (this.#current === undefined) return this.#start();
    this.#next ??= this.#current.then(
      () => this.#start(),
      () => this.#start(),
    );
    return this.#next;
  }

  #start(): Promise<T> {
    this.#next = undefined;
    const reading = this.#readNow();
    const done = () => {
      // The next one has started, if anybody waits for it.
      if (this.#current === reading) this.#current = undefined;
    };
    this.#current = reading;
    reading.then(done, done);
    return reading;
  }
}
