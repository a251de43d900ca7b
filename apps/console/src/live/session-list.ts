import { Code } from "@connectrpc/connect";
import type { Session } from "@sessiond/proto/sessiond/v1/session";
import { type SessionEvent, SessionEventType } from "@sessiond/proto/sessiond/v1/session_service";
import { type Calls, explain } from "../access/calls.js";
import { Store } from "../store.js";
import { type Row, stateOf, toRow } from "./row.js";
import type { SessionWatch, WatchListener } from "./session-watch.js";

/** More than an operator reads. The newest are kept. */
export const MAX_ROWS = 10_000;
const PAGE_SIZE = 1_000;
/** Changes that come together are one change of the screen. */
const PUBLISH_MS = 100;
const RELOAD_MS = 200;
const TICK_MS = 1_000;

/** Which sessions are listed. */
export interface Scope {
  /** All users if empty. */
  readonly userId: string;
  /** Also sessions that ended a short while ago. Only with a user. */
  readonly showEnded: boolean;
}

/** What is listed at a time. */
export interface ListState {
  /** The newest first. */
  readonly rows: readonly Row[];
  readonly isLoading: boolean;
  /** Whether there were more than the page keeps. */
  readonly isCut: boolean;
  /** Sessions that the server cannot unseal. */
  readonly unreadable: number;
  readonly problem: string | undefined;
}

/**
 * The sessions of one user or of all, kept as the server has them: read once, then by the watch's
 * events. Activity is no event, so a session whose deadline has passed is asked for once more.
 */
export class SessionList implements WatchListener {
  readonly state = new Store<ListState>({
    ...{ rows: [], isLoading: true, isCut: false, unreadable: 0, problem: undefined },
  });
  readonly #calls: Calls;
  readonly #watch: SessionWatch;
  readonly #scope: Scope;
  readonly #rows = new Map<string, Row>();
  /** A page that was on its way must not bring them back. */
  readonly #ended = new Set<string>();
  readonly #wanted = new Set<string>();
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #unsubscribe: () => void;
  #loading = new AbortController();
  #reloading: ReturnType<typeof setTimeout> | undefined;
  #isFetching = false;
  #isPublishing = false;
  #status: Omit<ListState, "rows"> = this.state.value;

  constructor(calls: Calls, watch: SessionWatch, scope: Scope) {
    this.#calls = calls;
    this.#watch = watch;
    this.#scope = scope;
    this.#timer = setInterval(() => this.#askForPassed(), TICK_MS);
    this.#unsubscribe = watch.subscribe(this);
  }

  close(): void {
    this.#unsubscribe();
    this.#loading.abort();
    clearInterval(this.#timer);
    clearTimeout(this.#reloading);
  }

  onStart(): void {
    void this.load();
  }

  onEvents(events: readonly SessionEvent[]): void {
    const { userId, showEnded } = this.#scope;
    for (const { type, sessionId, userId: of } of events) {
      if (userId !== "" && of !== userId) continue;
      const hasEnded = type === SessionEventType.REVOKED || type === SessionEventType.EVICTED;
      if (hasEnded && showEnded) this.#loadSoon();
      else if (hasEnded) this.#drop(sessionId);
      // A chosen id may have belonged to a session that is gone for good.
      if (type === SessionEventType.CREATED) this.#ended.delete(sessionId);
      if (!hasEnded) this.#wanted.add(sessionId);
    }
    void this.#fetch();
    this.#publish();
  }

  /** Reads everything again. */
  async load(): Promise<void> {
    this.#loading.abort();
    this.#loading = new AbortController();
    const { signal } = this.#loading;
    this.#status = { isLoading: true, isCut: false, unreadable: 0, problem: undefined };
    this.#publish();
    try {
      await this.#readPages(signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#status = { ...this.#status, problem: explain(error) };
    }
    if (signal.aborted) return;
    this.#status = { ...this.#status, isLoading: false };
    this.#publish();
  }

  /** Asks for sessions that may have changed without an event. */
  refresh(ids: readonly string[]): void {
    for (const id of ids) this.#wanted.add(id);
    void this.#fetch();
  }

  #loadSoon(): void {
    this.#reloading ??= setTimeout(() => {
      this.#reloading = undefined;
      void this.load();
    }, RELOAD_MS);
  }

  async #readPages(signal: AbortSignal): Promise<void> {
    const { userId, showEnded } = this.#scope;
    const found = new Set<string>();
    let pageToken = "";
    do {
      const page = await this.#calls.sessions.listSessions(
        { userId, showExpired: showEnded, showRevoked: showEnded, pageSize: PAGE_SIZE, pageToken },
        { signal },
      );
      for (const session of page.sessions) {
        found.add(session.id);
        this.#put(session);
      }
      pageToken = page.nextPageToken;
      const unreadable = this.#status.unreadable + page.unreadableSessionIds.length;
      this.#status = { ...this.#status, unreadable, isCut: pageToken !== "" };
      this.#publish();
    } while (pageToken !== "" && found.size < MAX_ROWS);
    for (const row of [...this.#rows.values()].filter(({ id }) => !found.has(id))) {
      // It was created meanwhile, or has ended unnoticed.
      if (stateOf(row, 0) === "active") this.refresh([row.id]);
      else this.#rows.delete(row.id);
    }
  }

  #askForPassed(): void {
    const nowMs = Date.now() + this.#watch.clockOffsetMs;
    const passed = [...this.#rows.values()].filter(
      (row) => nowMs >= row.expireMs && stateOf(row, 0) === "active",
    );
    // They are listed as ended where ended sessions are shown.
    if (passed.length > 0 && !this.#scope.showEnded) this.refresh(passed.map(({ id }) => id));
  }

  /** One call at a time: ids that come meanwhile are in the next one. */
  async #fetch(): Promise<void> {
    if (this.#isFetching || this.#wanted.size === 0) return;
    this.#isFetching = true;
    const sessionIds = [...this.#wanted].slice(0, PAGE_SIZE);
    for (const id of sessionIds) this.#wanted.delete(id);
    try {
      const { results } = await this.#calls.sessions.batchGetSessions({ sessionIds });
      for (const [i, { result }] of results.entries()) {
        const id = sessionIds[i] ?? "";
        if (result.case === "session") this.#put(result.value);
        // With the ended ones shown, it stays as it was when it ended.
        else if (result.value?.code === Code.NotFound && !this.#scope.showEnded) this.#drop(id);
      }
    } catch {
      // The watch says what is wrong. They are asked for again when their deadline has passed.
    } finally {
      this.#isFetching = false;
    }
    this.#publish();
    void this.#fetch();
  }

  #put(session: Session): void {
    if (!this.#ended.has(session.id)) this.#rows.set(session.id, toRow(session));
  }

  #drop(id: string): void {
    this.#rows.delete(id);
    this.#ended.add(id);
  }

  #publish(): void {
    if (this.#isPublishing) return;
    this.#isPublishing = true;
    setTimeout(() => {
      this.#isPublishing = false;
      if (!this.#status.isLoading && !this.#isFetching) this.#ended.clear();
      const rows = [...this.#rows.values()].sort((a, b) => b.createMs - a.createMs);
      for (const { id } of rows.splice(MAX_ROWS)) this.#rows.delete(id);
      this.state.value = { ...this.#status, rows };
    }, PUBLISH_MS);
  }
}
