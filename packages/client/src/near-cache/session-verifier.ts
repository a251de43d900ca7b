import { known, unknownNames } from "../known-names.js";
import { timeoutFault } from "../options.js";
import type { RpcCaller } from "../rpc/rpc-caller.js";
import { type Session, sessionFrom } from "../sessions/session.js";
import { OPTIONS, type VerifySessionOptions } from "../sessions/session-options.js";
import { foundOrUndefined, type PresentedToken, sendableToken } from "../sessions/session-token.js";
import { Activity } from "./activity.js";
import { EventFeed } from "./event-feed.js";
import { keyOf, NearCache, type NearCacheLimits, type NearCacheStats } from "./near-cache.js";
import { changesOf } from "./own-changes.js";

const CLOCKS = { monotonicMs: () => performance.now(), wallMs: () => Date.now() };

const NO_STATS: NearCacheStats = {
  hits: 0,
  misses: 0,
  entries: 0,
  bytes: 0,
  ageMs: undefined,
  resets: 0,
};

/** Verifies session tokens, from memory if the client has a near cache. */
export class SessionVerifier {
  readonly #rpc: RpcCaller;
  readonly #near:
    | { readonly cache: NearCache; readonly feed: EventFeed; readonly activity: Activity }
    | undefined;

  constructor(rpc: RpcCaller, limits: NearCacheLimits | undefined) {
    this.#rpc = rpc;
    if (limits === undefined) return;
    const cache = new NearCache(limits, CLOCKS);
    this.#near = { cache, feed: new EventFeed(rpc, cache), activity: new Activity(rpc, cache) };
    rpc.onEnd = (method, request, answer) => {
      for (const change of changesOf(method, request, answer)) cache.forget(change);
    };
  }

  stats(): NearCacheStats {
    return this.#near?.cache.stats() ?? NO_STATS;
  }

  close(): void {
    this.#near?.feed.close();
  }

  /**
   * The session of a token from memory. Undefined if the server is to be asked, or the arguments are to
   * be refused: no such token is in memory.
   */
  remembered(
    token: PresentedToken,
    options: VerifySessionOptions | undefined,
  ): Promise<Session<object>> | undefined {
    const near = this.#near;
    if (near === undefined || typeof token !== "string" || token === "") return undefined;
    if (options !== undefined && !isPlain(options)) return undefined;
    const key = keyOf(token);
    const nowMs = performance.now();
    const entry = near.cache.get(key, nowMs);
    if (entry === undefined) return undefined;
    if (nowMs >= entry.quietUntilMs && !options?.noTouch && near.cache.takeTouch(entry, nowMs)) {
      near.activity.report(key, token);
    }
    return entry.answer;
  }

  /** The session of a token by the server, or undefined if the token is not valid. */
  async ask(
    presented: PresentedToken,
    options: VerifySessionOptions = {},
  ): Promise<Session<object> | undefined> {
    known(options, OPTIONS.verifySession);
    const token = sendableToken(presented, "token");
    if (token === undefined) return undefined;
    if (this.#near === undefined) return this.#call(token, options);
    const { cache, feed } = this.#near;
    feed.start();
    const key = keyOf(token);
    const call = cache.begin();
    try {
      const session = await this.#call(token, options);
      if (session === undefined) cache.forget({ key });
      else cache.keep(key, session, call, !options.noTouch);
      return session;
    } finally {
      cache.end();
    }
  }

  #call(token: string, options: VerifySessionOptions): Promise<Session<object> | undefined> {
    const { noTouch = false } = options;
    const answer = this.#rpc.call("verifySession", { token, noTouch }, options);
    return foundOrUndefined(answer.then(({ session }) => sessionFrom(session)));
  }
}

/** Whether a call with these options would neither be refused nor canceled. */
function isPlain(options: VerifySessionOptions): boolean {
  if (unknownNames(options, OPTIONS.verifySession).length > 0) return false;
  const { timeoutMs, signal } = options;
  if (timeoutMs !== undefined && timeoutFault(timeoutMs) !== undefined) return false;
  return signal === undefined || (signal instanceof AbortSignal && !signal.aborted);
}
