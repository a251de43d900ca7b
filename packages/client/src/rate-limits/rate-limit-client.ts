import { durationMs } from "@bufbuild/protobuf/wkt";
import type { GetRateLimitResponse } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import { known, type NamesOf } from "../known-names.js";
import { CALL_OPTIONS, type CallOptions } from "../options.js";
import { dateFrom, int32, present, text } from "../rpc/fields.js";
import type { RpcCaller } from "../rpc/rpc-caller.js";

/** Options of `check` and `get`. */
export interface RateLimitOptions extends CallOptions {
  /** How much the attempt counts. Default: 1. */
  cost?: number | undefined;
}

const OPTIONS = { ...CALL_OPTIONS, cost: true } satisfies NamesOf<RateLimitOptions>;

/** The state of a key under a policy. */
export interface RateLimit {
  /** Whether the attempt is allowed. */
  readonly allowed: boolean;

  /**
   * The maximum cost of all attempts in one window. For a policy with several windows, this field
   * and those below are about the window with the least left.
   */
  readonly limit: number;

  /** How much is left. Includes this attempt if it was counted. */
  readonly remaining: number;

  /** How long until an attempt of the same cost would be allowed. 0 if it would be now. */
  readonly retryAfterMs: number;

  /** When the key is as good as new if no more attempts come, by the server's clock. */
  readonly resetTime: Date;
  readonly windowMs: number;
}

/**
 * Counts attempts under the policies of the server's configuration: the `rateLimits` of a
 * `SessionClient`.
 *
 * Every method rejects with a `SessiondError` and nothing else. An unknown policy is
 * INVALID_ARGUMENT. A server that cannot count also rejects: the caller then decides whether the
 * attempt may pass.
 */
export class RateLimitClient {
  readonly #rpc: RpcCaller;

  /** @internal */
  constructor(rpc: RpcCaller) {
    this.#rpc = rpc;
  }

  /**
   * Counts an attempt and says whether it is allowed:
   *
   * ```ts
   * const login = await client.rateLimits.check("login", ip);
   * if (!login.allowed) …
   * ```
   *
   * Not retried if the first attempt may have been counted.
   */
  async check(policy: string, key: string, options: RateLimitOptions = {}): Promise<RateLimit> {
    const request = attemptFrom(policy, key, options);
    return rateLimitFrom(await this.#rpc.call("checkRateLimit", request, options));
  }

  /** What `check` would answer. Counts nothing. */
  async get(policy: string, key: string, options: RateLimitOptions = {}): Promise<RateLimit> {
    const request = attemptFrom(policy, key, options);
    return rateLimitFrom(await this.#rpc.call("getRateLimit", request, options));
  }

  /** Forgets all attempts of a key, as after a login that succeeded. */
  async reset(policy: string, key: string, options: CallOptions = {}): Promise<void> {
    known(options, CALL_OPTIONS);
    const request = { policy: text(policy, "policy"), key: text(key, "key") };
    await this.#rpc.call("resetRateLimit", request, options);
  }
}

function attemptFrom(policy: string, key: string, options: RateLimitOptions) {
  const { cost } = known(options, OPTIONS);
  return {
    policy: text(policy, "policy"),
    key: text(key, "key"),
    cost: cost === undefined ? undefined : int32(cost, "cost"),
  };
}

/** `check` and `get` answer the same fields. */
function rateLimitFrom(answer: Omit<GetRateLimitResponse, "$typeName">): RateLimit {
  const { allowed, limit, remaining, retryAfter, resetTime, window } = answer;
  return {
    allowed,
    limit,
    remaining,
    retryAfterMs: durationMs(present(retryAfter, "retry_after")),
    resetTime: dateFrom(resetTime, "reset_time"),
    windowMs: durationMs(present(window, "window")),
  };
}
