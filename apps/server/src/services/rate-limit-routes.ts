import type { ConnectRouter } from "@connectrpc/connect";
import type { RateLimitDecision } from "@sessiond/core";
import { RateLimitService } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import type { Logger } from "pino";
import type { Namespaces } from "./namespaces.js";
import { fromRateLimitRequest, toRateLimitFields } from "./rate-limit-messages.js";

/** RateLimitService: each handler converts, calls the domain, and converts back. */
export function rateLimitRoutes(
  namespaces: Namespaces,
  logger: Logger,
): (router: ConnectRouter) => void {
  // The call succeeds although the store failed, so only this warning tells of the failure.
  const logUncounted = (policy: string, { storeFailure }: RateLimitDecision) => {
    if (storeFailure) logger.warn({ policy, error: storeFailure.message }, "attempt not counted");
  };
  return (router) =>
    router.service(RateLimitService, {
      async checkRateLimit(request, { values }) {
        const { rateLimits } = namespaces.of(values);
        const decision = await rateLimits.check(fromRateLimitRequest(request));
        logUncounted(request.policy, decision);
        return toRateLimitFields(decision);
      },

      async getRateLimit(request, { values }) {
        const { rateLimits } = namespaces.of(values);
        const decision = await rateLimits.get(fromRateLimitRequest(request));
        logUncounted(request.policy, decision);
        return toRateLimitFields(decision);
      },

      async resetRateLimit({ policy, key }, { values }) {
        const { rateLimits } = namespaces.of(values);
        await rateLimits.reset({ policy, key });
        return {};
      },
    });
}
