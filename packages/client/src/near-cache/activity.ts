import { AsyncLocalStorage } from "node:async_hooks";
import type { RpcCaller } from "../rpc/rpc-caller.js";
import { resultsFrom, type SessionField } from "../sessions/session.js";
import type { NearCache } from "./near-cache.js";

/** How long activity is collected. A small part of the shortest tenth of an idle timeout. */
const COLLECT_MS = 20;

/** The server permits 1000. As in `rpc/batches.ts`, a tenth costs each hardly more. */
const MAX_BATCH = 100;

/** More at a time would be reported late. What is left out is reported a tenth later. */
const MAX_WAITING = 10_000;

/**
 * Reports hits as activity, many with one call: it verifies their tokens. The answers replace what
 * the cache has, with the new idle deadlines.
 */
export class Activity {
  readonly #rpc: RpcCaller;
  readonly #cache: NearCache;
  /** Tokens by their hash, for as long as they wait here. */
  readonly #waiting = new Map<string, string>();
  /** A report is of many requests, so it must not be in the trace of one. */
  readonly #outsideRequests = AsyncLocalStorage.snapshot();

  constructor(rpc: RpcCaller, cache: NearCache) {
    this.#rpc = rpc;
    this.#cache = cache;
  }

  /** Reports a hit soon. */
  report(key: string, token: string): void {
    if (this.#waiting.size >= MAX_WAITING) return;
    if (this.#waiting.size === 0) {
      this.#outsideRequests(() => setTimeout(() => this.#send(), COLLECT_MS).unref());
    }
    this.#waiting.set(key, token);
  }

  #send(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (let start = 0; start < waiting.length; start += MAX_BATCH) {
      void this.#sendBatch(waiting.slice(start, start + MAX_BATCH));
    }
  }

  /** Never rejects: there are ten tenths before the session would end. */
  async #sendBatch(batch: readonly (readonly [key: string, token: string])[]): Promise<void> {
    const call = this.#cache.begin();
    try {
      const tokens = batch.map(([, token]) => token);
      const answer = await this.#rpc.call("batchVerifySessions", { tokens, noTouch: false });
      const results = resultsFrom<SessionField, object>(answer.results, batch.length);
      for (const [index, [key]] of batch.entries()) {
        const { session, error } = results[index] ?? {};
        if (session !== undefined) this.#cache.keep(key, session, call, true);
        else if (error?.reason === "SESSION_NOT_FOUND") this.#cache.forget({ key });
      }
    } catch {
      // The application's own calls tell of an outage.
    } finally {
      this.#cache.end();
    }
  }
}
