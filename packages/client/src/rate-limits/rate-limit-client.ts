import { durationMs } from "@bufbuild/protobuf/wkt";
import type { GetRateLimitResponse } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import type { CallOptions } from "../options.js";
import { dateFrom, int32, present, text } from "../rpc/fields.js";
import type { RpcCaller } from "../rpc/rpc-caller.js";

/** Options of `check` and `get`. */
export interface RateLimitOptions extends CallOptions {
  /** How much the attempt counts; 1 when left out. */
  cost?: number | undefined;
}

/** Where a key stands. */
export interface RateLimit {
  /** Whether the attempt may go ahead. */
  readonly allowed: boolean;

  /**
   * The most that the attempts of one window may cost. Of a policy with several
   * windows, this and all below is about the one that leaves least.
   */
  readonly limit: number;

  /** How much is left, after this attempt if it was counted. */
  readonly remaining: number;

  /** How long until an attempt of the same cost would be allowed; 0 if it would be now. */
  readonly retryAfterMs: number;

  /** When all that was counted is forgotten, if nothing more comes, by the server's clock. */
  readonly resetTime: Date;
  readonly windowMs: number;
}

/**
 * Counts attempts under the policies of the server's configuration: the
 * `rateLimits` of a `SessionClient`.
 *
 * Every method rejects with a `SessiondError` and nothing else. A policy that the
 * server does not have is INVALID_ARGUMENT. A server that cannot count rejects,
 * too: whether to let an attempt pass then is up to the caller.
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
   * Not made again when it is not known whether it was counted.
   */
  async check(policy: string, key: string, options: RateLimitOptions = {}): Promise<RateLimit> {
    const request = attemptFrom(policy, key, options);
    return rateLimitFrom(await this.#rpc.call("checkRateLimit", request, options));
  }

  /** What `check` would say, counting nothing. */
  async get(policy: string, key: string, options: RateLimitOptions = {}): Promise<RateLimit> {
    const request = attemptFrom(policy, key, options);
    return rateLimitFrom(await this.#rpc.call("getRateLimit", request, options));
  }

  /** Forgets all attempts of a key, as after a login that succeeded. */
  async reset(policy: string, key: string, options?: CallOptions): Promise<void> {
    const request = { policy: text(policy, "policy"), key: text(key, "key") };
    await this.#rpc.call("resetRateLimit", request, options);
  }
}

function attemptFrom(policy: string, key: string, { cost }: RateLimitOptions) {
  return {
    policy: text(policy, "policy"),
    key: text(key, "key"),
    ...(cost !== undefined && { cost: int32(cost, "cost") }),
  };
}

/** Both methods answer the same fields. */
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
