import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { RateLimitRequest, RateLimitState } from "@sessiond/core";
import type * as rpc from "@sessiond/proto/sessiond/v1/rate_limit_service";

// Pure conversions between the messages of RateLimitService and the domain.

export function fromRateLimitRequest(
  request: rpc.CheckRateLimitRequest | rpc.GetRateLimitRequest,
): RateLimitRequest {
  const { policy, key, cost } = request;
  return { policy, key, ...(cost !== undefined && { cost }) };
}

export function toRateLimitFields(state: RateLimitState) {
  return {
    allowed: state.isAllowed,
    limit: state.window.limit,
    remaining: state.remaining,
    retryAfter: durationFromMs(state.retryAfterMs),
    resetTime: timestampFromMs(state.resetTimeMs),
    window: durationFromMs(state.window.windowMs),
  };
}
