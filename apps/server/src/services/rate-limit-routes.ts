import type { ConnectRouter } from "@connectrpc/connect";
import type { RateLimitDecision, RateLimits } from "@sessiond/core";
import { RateLimitService } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import type { Logger } from "pino";
import { fromRateLimitRequest, toRateLimitFields } from "./rate-limit-messages.js";

/** RateLimitService: each handler converts, calls the domain, and converts back. */
export function rateLimitRoutes(
  rateLimits: RateLimits,
  logger: Logger,
): (router: ConnectRouter) => void {
  // The call succeeds although the store failed, so only this warning tells of the failure.
  const logUncounted = (policy: string, { storeFailure }: RateLimitDecision) => {
    if (storeFailure) logger.warn({ policy, error: storeFailure.message }, "attempt not counted");
  };
  return (router) =>
    router.service(RateLimitService, {
      async checkRateLimit(request) {
        const decision = await rateLimits.check(fromRateLimitRequest(request));
        logUncounted(request.policy, decision);
        return toRateLimitFields(decision);
      },

      async getRateLimit(request) {
        const decision = await rateLimits.get(fromRateLimitRequest(request));
        logUncounted(request.policy, decision);
        return toRateLimitFields(decision);
      },

      async resetRateLimit({ policy, key }) {
        await rateLimits.reset({ policy, key });
        return {};
      },
    });
}
