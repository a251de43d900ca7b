import { setTimeout as sleep } from "node:timers/promises";
import { type SessionClient, SessiondError, type SessionEvent } from "@sessiond/client";
import { vi } from "vitest";

/** A pause of each caller between two sessions, so that the callers leave the servers some CPU. */
const PAUSE_MS = 3_000;
const TOLD_TIMEOUT_MS = 30_000;

/** A call that failed, after all attempts of the SDK. */
interface Failure {
  readonly method: string;
  readonly reason: string;
  readonly message: string;
}

/** Callers and watchers of a service whose servers are restarted, and what they met. */
export class RestartLoad {
  readonly #clients: readonly SessionClient[];
  /** How many changes each session has had that is over. An update that failed may have happened. */
  readonly #changes = new Map<string, { readonly least: number; readonly most: number }>();
  readonly #watches: SessionEvent[][] = [];
  readonly #stop = new AbortController();
  readonly failures: Failure[] = [];
  callCount = 0;

  constructor(clients: readonly SessionClient[]) {
    this.#clients = clients;
  }

  /** Starts watchers of all users. Resolves once all watch. */
  async watch(count: number): Promise<void> {
    await Promise.all(
      Array.from({ length: count }, async (_, i) => {
        const told: SessionEvent[] = [];
        this.#watches.push(told);
        const watch = this.#client(i).watchSessions();
        await watch.next();
        void this.#take(watch, told);
      }),
    );
  }

  /** Each caller creates sessions, changes and ends them, until `stopCalling`. */
  async call(callers: number): Promise<void> {
    await Promise.all(
      Array.from({ length: callers }, async (_, caller) => {
        const { signal } = this.#stop;
        for (let i = 0; !signal.aborted; i++) {
          await this.#liveOneSession(this.#client(caller), `user-${caller}-${i}`);
          await sleep(PAUSE_MS * Math.random() * 2, undefined, { signal }).catch(() => {});
        }
      }),
    );
  }

  stopCalling(): void {
    this.#stop.abort();
  }

  /** Waits until every watcher was told the last change of every session. */
  async untilAllIsTold(): Promise<void> {
    const isTold = (told: readonly SessionEvent[]) => {
      const ended = new Set(told.filter(({ type }) => type === "revoked").map((e) => e.sessionId));
      return [...this.#changes.keys()].every((id) => ended.has(id));
    };
    const isOver = { timeout: TOLD_TIMEOUT_MS, interval: 200 };
    await vi.waitUntil(() => this.#watches.every(isTold), isOver).catch(() => {});
  }

  /** What watchers were not told once and in order. */
  faultsOfWatches(): string[] {
    return this.#watches.flatMap((told, watcher) => {
      const bySession = Map.groupBy(told, ({ sessionId }) => sessionId);
      return [...this.#changes].flatMap(([id, { least, most }]) => {
        const versions = bySession.get(id)?.map(({ version }) => version) ?? [];
        const isInOrder = versions.every((version, i) => version === i + 1);
        const isWhole = versions.length >= least && versions.length <= most;
        return isInOrder && isWhole ? [] : [`${watcher}: ${versions} of ${least} to ${most}`];
      });
    });
  }

  #client(i: number): SessionClient {
    return this.#clients[i % this.#clients.length] as SessionClient;
  }

  async #take(watch: ReturnType<SessionClient["watchSessions"]>, told: SessionEvent[]) {
    try {
      for await (const message of watch) {
        if (message.type === "events") told.push(...message.events);
        if (message.type === "reset") this.#fail("watchSessions", new Error(message.reason));
      }
    } catch (error) {
      // Only the end of the test ends a watch.
      if (!this.#stop.signal.aborted) this.#fail("watchSessions", error);
    }
  }

  async #liveOneSession(client: SessionClient, userId: string): Promise<void> {
    const created = await this.#try("createSession", () => client.createSession({ userId }));
    if (created === undefined) return;
    const { session, token } = created;
    await this.#try("verifySession", () => client.verifySession(token));
    const update = () => client.updateSession(session.id, { displayName: userId });
    const updated = await this.#try("updateSession", update);
    await this.#try("checkRateLimit", () => client.rateLimits.check("login", userId));
    const target = { sessionId: session.id };
    const revoked = await this.#try("revokeSession", () => client.revokeSession(target));
    if (revoked === undefined) return;
    this.#changes.set(session.id, { least: updated === undefined ? 2 : 3, most: 3 });
  }

  async #try<T>(method: string, call: () => Promise<T>): Promise<T | undefined> {
    this.callCount++;
    try {
      return await call();
    } catch (error) {
      this.#fail(method, error);
      return undefined;
    }
  }

  #fail(method: string, error: unknown): void {
    const { message } = error as Error;
    const reason = error instanceof SessiondError ? error.reason : "none";
    // On a busy machine Redis may get no CPU for a second, which has nothing to do with restarts.
    if (reason === "STORE_UNAVAILABLE") return;
    this.failures.push({ method, reason, message });
  }
}
