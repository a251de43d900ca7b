import type { Interceptor } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { Admission } from "../admission/admission.js";
import type { AccessTokenVerifier } from "../auth/access-token.js";
import type { Audit } from "../observability/audit.js";
import type { PortMetrics } from "../observability/rpc-metrics.js";
import { admitCalls } from "./admit.js";
import { countWork } from "./count-work.js";
import { limitTime } from "./limit-time.js";
import { logCalls } from "./log-calls.js";
import { mapErrors } from "./map-errors.js";
import { measureCalls } from "./measure-calls.js";
import { traceCalls } from "./trace-calls.js";

/** What every call on a port passes through, the outermost first. The same on both ports. */
export function createInterceptors(options: {
  readonly logger: Logger;
  readonly verifier: AccessTokenVerifier;
  readonly audit: Audit;
  readonly admission: Admission;
  /** Those of the port. */
  readonly metrics: PortMetrics;
}): readonly Interceptor[] {
  return [
    // Around the log: what the log costs is part of a call's duration.
    measureCalls(options.metrics),
    // Outside of the log, which has the ids of the call's span.
    traceCalls,
    // Outside of all that may fail: it logs the code that the caller gets, and the whole duration.
    logCalls(options.logger),
    // Around everything that may throw: every error leaves in the contract's form.
    mapErrors,
    // Before anything reads the request: strangers get no further.
    admitCalls(options.verifier, options.audit),
    // Around the handler: it limits the store's time, not the issuer's.
    limitTime(),
    // Innermost: a handler may go on after the call has its answer.
    countWork(options.admission),
  ];
}
