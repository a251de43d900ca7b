/** The part of a `RateLimit` that a response shows. */
export interface RateLimitAnswer {
  readonly allowed: boolean;
  readonly limit: number;
  readonly remaining: number;
  readonly retryAfterMs: number;
  readonly resetTime: Date;
  readonly windowMs?: number;
}

/**
 * The response fields `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-11.
 * Append them, because several limits may apply to one request.
 */
export function rateLimitFields(
  policy: string,
  { allowed, limit, remaining, retryAfterMs, resetTime, windowMs }: RateLimitAnswer,
  nowMs: number,
): Readonly<Record<"RateLimit-Policy" | "RateLimit", string>> {
  const window = windowMs === undefined ? "" : `;w=${toSeconds(windowMs)}`;
  // The clocks of this process and of the server's store may differ, so the window is the limit.
  const untilResetMs = Math.min(Math.max(0, resetTime.getTime() - nowMs), windowMs ?? Infinity);
  // A refusal names the same time as Retry-After.
  const effectiveSeconds = allowed ? Math.ceil(untilResetMs / 1_000) : toSeconds(retryAfterMs);
  return {
    "RateLimit-Policy": `"${policy}";q=${limit}${window}`,
    RateLimit: `"${policy}";r=${remaining};t=${effectiveSeconds}`,
  };
}

/** Whole seconds, rounded up and never zero, so that the client waits long enough. */
export function toSeconds(ms: number): number {
  return Math.max(1, Math.ceil(ms / 1_000));
}
