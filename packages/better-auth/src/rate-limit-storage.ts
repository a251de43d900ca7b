import type { SessionClient } from "@sessiond/client";

/** Options of `sessiondRateLimitStorage`. */
export interface RateLimitStorageOptions {
  /** The client of sessiond. Its access token needs the permission `rate_limits:use`. */
  client: Pick<SessionClient, "rateLimits">;

  /**
   * The policy of sessiond's configuration that a request counts for: its name, or a function of
   * better-auth's key (address and path) and of the rule that better-auth has for the path.
   */
  policy: string | ((key: string, rule: Rule) => string);
}

/** better-auth's own rule for a path: `max` requests in `window` seconds. */
interface Rule {
  readonly window: number;
  readonly max: number;
}

/**
 * The `rateLimit.customStorage` of better-auth, on sessiond's CheckRateLimit: exact for all servers
 * together. sessiond's policy decides, so better-auth's `window` and `max` only choose it, if
 * `policy` is a function. While sessiond does not answer, the call fails and nobody gets in, unless
 * the policy says `allow when unavailable`.
 */
export function sessiondRateLimitStorage({ client, policy }: RateLimitStorageOptions) {
  return {
    async consume(key: string, rule: Rule) {
      const name = typeof policy === "string" ? policy : policy(key, rule);
      const { allowed, retryAfterMs } = await client.rateLimits.check(name, key);
      return { allowed, retryAfter: allowed ? null : Math.ceil(retryAfterMs / 1_000) };
    },
  };
}
