import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import type { RateLimitDecision } from "@sessiond/core";
import { RateLimitService } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import type { Logger } from "pino";
import { callerKey } from "../auth/caller.js";
import type { AuditedCall } from "../observability/audit.js";
import { traceFields } from "../observability/tracing.js";
import type { CallerNames } from "./caller-names.js";
import type { Namespaces } from "./namespaces.js";
import { fromRateLimitRequest, toRateLimitFields } from "./rate-limit-messages.js";

type OnCheck = (
  request: { readonly policy: string; readonly key: string },
  decision: RateLimitDecision,
  call: AuditedCall,
) => void;

/**
 * RateLimitService: each handler converts, calls the domain, and converts back. `onCheck` is told of
 * every decision, of a policy that exists.
 */
export function rateLimitRoutes(
  namespaces: Namespaces,
  names: CallerNames,
  logger: Logger,
  onCheck: OnCheck = () => {},
): (router: ConnectRouter) => void {
  // The call succeeds although the store failed, so only this warning tells of the failure.
  const logUncounted = (
    policy: string,
    { storeFailure }: RateLimitDecision,
    { values, requestHeader }: HandlerContext,
  ) => {
    if (storeFailure === undefined) return;
    const ids = traceFields(values, requestHeader);
    logger.warn({ policy, error: storeFailure.message, ...ids }, "attempt not counted");
  };
  return (router) =>
    router.service(RateLimitService, {
      async checkRateLimit(request, context) {
        const { rateLimits } = namespaces.of(context.values);
        const caller = context.values.get(callerKey);
        if (caller !== undefined) names.use(caller, `${request.policy}:${request.key}`);
        const decision = await rateLimits.check(fromRateLimitRequest(request));
        onCheck(request, decision, { values: context.values, header: context.requestHeader });
        logUncounted(request.policy, decision, context);
        return toRateLimitFields(decision);
      },

      async getRateLimit(request, context) {
        const { rateLimits } = namespaces.of(context.values);
        const decision = await rateLimits.get(fromRateLimitRequest(request));
        logUncounted(request.policy, decision, context);
        return toRateLimitFields(decision);
      },

      async resetRateLimit({ policy, key }, { values }) {
        const { rateLimits } = namespaces.of(values);
        await rateLimits.reset({ policy, key });
        return {};
      },
    });
}
