import type { RateLimitWindow } from "@sessiond/core";
import type { Caller } from "../auth/caller.js";
import { CallQuota } from "./call-quota.js";

/** Callers are services, so there are few. The one that was seen first is forgotten first. */
const MAX_CALLERS = 10_000;
/** How many headers are remembered, as many as the verifier remembers tokens. */
const MAX_HEADERS = 10_000;
/** The end of a token is random: it is a part of the signature. In characters of 6 bits each. */
const TOLD_APART_LENGTH = 43;

/** What one caller has under way. */
export class CallerCalls {
  readonly quota: CallQuota | undefined;
  /** Requests that no handler has yet. */
  open = 0;
  /** Handlers that have not settled yet, also for requests that were given up. */
  working = 0;

  constructor(quota: CallQuota | undefined) {
    this.quota = quota;
  }

  get inFlight(): number {
    return this.open + this.working;
  }
}

/**
 * Whose calls are under way. A caller is the subject, issuer and namespace of its access tokens.
 * A token that was never verified so far is a stranger's, and all strangers together are one caller.
 */
export class Callers {
  readonly #quota: readonly RateLimitWindow[];
  readonly strangers = new CallerCalls(undefined);
  readonly #byName = new Map<string, CallerCalls>();
  /**
   * By the end of the header. It tells tokens apart as well as a hash, and costs less. Nobody can use
   * it as a token: there are no credentials in a dump of our memory.
   */
  readonly #byHeader = new Map<string, CallerCalls>();
  readonly #byCaller = new WeakMap<Caller, CallerCalls>();

  /** `quota` is of each caller; none if it has no windows. */
  constructor(quota: readonly RateLimitWindow[]) {
    this.#quota = quota;
  }

  /** Whose call has this `authorization` header. Undefined if that was not learned so far. */
  ofHeader(authorization: string): CallerCalls | undefined {
    return this.#byHeader.get(authorization.slice(-TOLD_APART_LENGTH));
  }

  /** The calls of a caller that was verified. Remembers the header that it came with. */
  learn(authorization: string, caller: Caller): CallerCalls {
    let calls = this.#byCaller.get(caller);
    if (calls === undefined) {
      calls = this.#named(caller);
      this.#byCaller.set(caller, calls);
    }
    const end = authorization.slice(-TOLD_APART_LENGTH);
    if (!this.#byHeader.has(end)) remember(this.#byHeader, copyOf(end), calls, MAX_HEADERS);
    return calls;
  }

  #named({ issuer, subject, namespace }: Caller): CallerCalls {
    const name = JSON.stringify([issuer, subject, namespace]);
    const known = this.#byName.get(name);
    if (known !== undefined) return known;
    const hasQuota = this.#quota.length > 0;
    const quota = hasQuota ? new CallQuota(this.#quota, performance.now()) : undefined;
    const calls = new CallerCalls(quota);
    remember(this.#byName, name, calls, MAX_CALLERS);
    return calls;
  }
}

/** A part of a string keeps the whole in memory. */
function copyOf(part: string): string {
  return Buffer.from(part, "latin1").toString("latin1");
}

function remember<T>(map: Map<string, T>, key: string, value: T, most: number): void {
  map.set(key, value);
  const [oldest = key] = map.keys();
  if (map.size > most) map.delete(oldest);
}
