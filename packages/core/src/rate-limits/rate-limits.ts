import { invalidArgument, quote, SessiondError } from "../errors.js";
import { checkName, LIMITS } from "../validation.js";
import type { RateLimitPolicy } from "./rate-limit-policy.js";
import { summarize } from "./rate-limit-state.js";
import type { RateLimitState, RateLimitStore } from "./rate-limit-store.js";

/** Whose attempts, under which policy. */
export interface RateLimitTarget {
  /** The name of a policy. */
  readonly policy: string;
  /** Whose attempts are counted together: 1 to 256 bytes without control characters. */
  readonly key: string;
}

/** An attempt that was made, or would be. */
export interface RateLimitRequest extends RateLimitTarget {
  /** How much it counts: from 1, the default, to the least limit of the policy. */
  readonly cost?: number;
}

/** Where a key stands, and whether that was known. */
export interface RateLimitDecision extends RateLimitState {
  /**
   * Why the store did not answer, for the log: set where the policy lets attempts pass
   * that cannot be counted, and this is such a one.
   */
  readonly storeFailure?: SessiondError;
}

/** What `RateLimits` is made of. */
export interface RateLimitsOptions {
  readonly store: RateLimitStore;
  /** Each with a name of its own. */
  readonly policies: readonly RateLimitPolicy[];
  /** Stands in for the store's clock where the store is down; `Date.now` by default. */
  readonly now?: () => number;
}

/**
 * Rate limits by policies with names. All methods throw INVALID_ARGUMENT.
 *
 * Where the store is down, an attempt passes under a policy that says so, and any
 * other throws STORE_UNAVAILABLE, which callers treat as a refusal. A store that is full
 * throws OVERLOADED under either.
 */
export class RateLimits {
  readonly #store: RateLimitStore;
  readonly #policies: ReadonlyMap<string, RateLimitPolicy>;
  readonly #now: () => number;

  constructor({ store, policies, now = Date.now }: RateLimitsOptions) {
    this.#store = store;
    this.#policies = new Map(policies.map((policy) => [policy.name, policy]));
    this.#now = now;
  }

  /** Counts an attempt, and says whether it is allowed. */
  async check(request: RateLimitRequest): Promise<RateLimitDecision> {
    const { policy, key, cost } = this.#resolve(request);
    const { windows, countRefused } = policy;
    return this.#orLetPass(policy, this.#store.check(key, windows, { cost, countRefused }));
  }

  /** What `check` would say, counting nothing. */
  async get(request: RateLimitRequest): Promise<RateLimitDecision> {
    const { policy, key, cost } = this.#resolve(request);
    return this.#orLetPass(policy, this.#store.get(key, policy.windows, cost));
  }

  /** Forgets all attempts of a key. Throws STORE_UNAVAILABLE whatever the policy. */
  async reset(target: RateLimitTarget): Promise<void> {
    await this.#store.reset(this.#resolve(target).key);
  }

  #resolve({ policy: name, key, cost = 1 }: RateLimitRequest) {
    const policy = this.#policies.get(name);
    if (policy === undefined) throw unknownPolicy(name, [...this.#policies.keys()]);
    checkName("key", key, LIMITS.rateLimitKeyBytes);
    const leastLimit = Math.min(...policy.windows.map(({ limit }) => limit));
    if (!Number.isInteger(cost) || cost < 1 || cost > leastLimit) {
      throw invalidArgument("cost", `expected a whole number from 1 to ${leastLimit}`);
    }
    // No policy has a colon in its name, so no two of them share a key.
    return { policy, key: `${name}:${key}`, cost };
  }

  async #orLetPass(
    { windows, whenUnavailable }: RateLimitPolicy,
    answer: Promise<RateLimitState>,
  ): Promise<RateLimitDecision> {
    try {
      return await answer;
    } catch (error) {
      const isDown = error instanceof SessiondError && error.reason === "STORE_UNAVAILABLE";
      if (!isDown || whenUnavailable === "refuse") throw error;
      const resetTimeMs = this.#now();
      const untouched = windows.map((window) => ({
        window,
        used: 0,
        retryAfterMs: 0,
        resetTimeMs,
      }));
      return { ...summarize(true, untouched), storeFailure: error };
    }
  }
}

function unknownPolicy(name: string, known: readonly string[]): SessiondError {
  const list = new Intl.ListFormat("en", { type: "disjunction" }).format(known);
  return invalidArgument("policy", `there is no policy ${quote(name)}; expected ${list}`);
}
