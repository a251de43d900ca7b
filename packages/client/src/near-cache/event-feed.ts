import { AsyncLocalStorage } from "node:async_hooks";
import { SessiondError } from "../error.js";
import { backoffMs } from "../rpc/retry.js";
import type { RpcCaller } from "../rpc/rpc-caller.js";
import { mayResume, messageFrom, watchOnce } from "../sessions/watch.js";
import type { NearCache, Next } from "./near-cache.js";

/** A server that refuses the watch, or does not know it, is asked again so often. */
const REFUSED_PAUSE_MS = 30_000;

/** A stream that was read for so long has done its work: the next one is opened at once. */
const GOOD_STREAM_MS = 10_000;

/** How a stream ended for us, and where the next one begins. */
interface StreamEnd {
  readonly next: Exclude<Next, "read on"> | SessiondError;
  readonly resumeToken: string;
}

/**
 * Tells a near cache what changes, by one watch of all sessions after another. The cache decides when
 * a stream is to be replaced, so this does not use `watchSessions`, which hides that.
 */
export class EventFeed {
  readonly #rpc: RpcCaller;
  readonly #cache: NearCache;
  readonly #end = new AbortController();
  /** The stream outlives the request that starts it, so it must not be in its trace. */
  readonly #outsideRequests = AsyncLocalStorage.snapshot();
  #isRunning = false;

  constructor(rpc: RpcCaller, cache: NearCache) {
    this.#rpc = rpc;
    this.#cache = cache;
  }

  /** Begins to watch, once. The stream keeps the process alive until `close`. */
  start(): void {
    if (this.#isRunning || this.#end.signal.aborted) return;
    this.#isRunning = true;
    this.#outsideRequests(() => void this.#run());
  }

  close(): void {
    this.#end.abort();
    this.#cache.streamLost();
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    const { signal } = this.#end;
    let resumeToken = "";
    for (let failures = 0; !signal.aborted; ) {
      const startMs = performance.now();
      const end = await this.#read(resumeToken);
      failures = performance.now() - startMs < GOOD_STREAM_MS ? failures + 1 : 0;
      if (end.next !== "renew") this.#cache.streamLost();
      // A renewed stream continues after the last message. After a loss we begin with nothing.
      resumeToken = end.next === "renew" ? end.resumeToken : "";
      await this.#pause(end.next, failures);
    }
  }

  /** Reads one stream, until the cache does not want it any more or it breaks. */
  async #read(start: string): Promise<StreamEnd> {
    this.#cache.streamOpens();
    const stream = watchOnce(this.#rpc, { userId: "", resumeToken: start }, this.#end.signal);
    let resumeToken = start;
    try {
      for (;;) {
        const result = await stream.next();
        if (result.done) return { next: result.value, resumeToken };
        if (result.value.resumeToken !== "") resumeToken = result.value.resumeToken;
        const message = messageFrom(result.value);
        const next = message === undefined ? "read on" : this.#cache.receive(message);
        if (next !== "read on") return { next, resumeToken };
      }
    } catch (cause) {
      // A message that breaks the contract.
      return { next: new SessiondError("INTERNAL", "the watch failed", { cause }), resumeToken };
    } finally {
      await stream.return(undefined as never);
    }
  }

  async #pause(next: StreamEnd["next"], failures: number): Promise<void> {
    if (failures === 0) return;
    const error = next instanceof SessiondError ? next : new SessiondError("UNAVAILABLE", next);
    const waitMs = mayResume(error) ? backoffMs(failures, error, Math.random()) : REFUSED_PAUSE_MS;
    try {
      await this.#rpc.pause(waitMs, this.#end.signal);
    } catch {
      // The client is closed, which ends the loop as well.
      this.#end.abort();
    }
  }
}
