import { invalidArgument, quote, SessiondError, withoutSecrets } from "../errors.js";
import { checkName, LIMITS } from "../validation.js";
import type { RateLimitPolicy } from "./rate-limit-policy.js";
import { summarize } from "./rate-limit-state.js";
import type { RateLimitState, RateLimitStore } from "./rate-limit-store.js";

/** A key under a policy. */
export interface RateLimitTarget {
  /** The name of a policy. */
  readonly policy: string;
  /** Attempts with one key count together: 1 to 256 bytes without control characters. */
  readonly key: string;
}

/** An attempt. */
export interface RateLimitRequest extends RateLimitTarget {
  /** How much it counts: from 1, the default, to the smallest limit of the policy. */
  readonly cost?: number;
}

/** The state of a key, and whether the store knew it. */
export interface RateLimitDecision extends RateLimitState {
  /**
   * For the log, why the store did not answer. Set if the policy lets this attempt pass uncounted.
   */
  readonly storeFailure?: SessiondError;
}

/** Options of `RateLimits`. */
export interface RateLimitsOptions {
  readonly store: RateLimitStore;
  /** With unique names. */
  readonly policies: readonly RateLimitPolicy[];
  /** Whose counts these are, as `isNamespace` has it. "" by default. */
  readonly namespace?: string;
  /** Replaces the store's clock while the store is down. `Date.now` by default. */
  readonly now?: () => number;
}

/**
 * The rate limits of a namespace, by named policies. All methods throw INVALID_ARGUMENT.
 *
 * While the store is down or full, an attempt passes if its policy says so. Otherwise it throws
 * STORE_UNAVAILABLE or OVERLOADED, which callers treat as a refusal.
 */
export class RateLimits {
  readonly #store: RateLimitStore;
  readonly #policies: ReadonlyMap<string, RateLimitPolicy>;
  readonly #now: () => number;

  constructor({ store, policies, namespace = "", now = Date.now }: RateLimitsOptions) {
    this.#store = store.namespace(namespace);
    this.#policies = new Map(policies.map((policy) => [policy.name, policy]));
    this.#now = now;
  }

  /** Counts an attempt and answers whether it is allowed. */
  async check(request: RateLimitRequest): Promise<RateLimitDecision> {
    const { policy, key, cost } = this.#resolve(request);
    const { windows, countRefused } = policy;
    return this.#orLetPass(policy, this.#store.check(key, windows, { cost, countRefused }));
  }

  /** The answer of `check`, without counting. */
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
    // No policy's name has a colon, so no two policies share a key.
    return { policy, key: `${name}:${key}`, cost };
  }

  async #orLetPass(
    { windows, whenUnavailable }: RateLimitPolicy,
    answer: Promise<RateLimitState>,
  ): Promise<RateLimitDecision> {
    try {
      return await answer;
    } catch (error) {
      if (!cannotCount(error) || whenUnavailable === "refuse") throw error;
      const unused = { used: 0, retryAfterMs: 0, resetTimeMs: this.#now() };
      const untouched = windows.map((window) => ({ window, ...unused }));
      return { ...summarize(true, untouched), storeFailure: error };
    }
  }
}

/** Whether the store is down or full. */
function cannotCount(error: unknown): error is SessiondError {
  if (!(error instanceof SessiondError)) return false;
  const { reason } = error;
  return reason === "STORE_UNAVAILABLE" || reason === "OVERLOADED";
}

function unknownPolicy(name: string, known: readonly string[]): SessiondError {
  const list = new Intl.ListFormat("en", { type: "disjunction" }).format(known);
  return invalidArgument(
    "policy",
    `there is no policy ${quote(withoutSecrets(name))}; expected ${list}`,
  );
}
