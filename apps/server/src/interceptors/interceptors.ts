import type { Interceptor } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { AccessTokenVerifier } from "../auth/access-token.js";
import { admitCalls } from "./admit.js";
import { limitTime } from "./limit-time.js";
import { logCalls } from "./log-calls.js";
import { mapErrors } from "./map-errors.js";

/** What every call on either port passes through, the outermost first. */
export function createInterceptors(options: {
  readonly logger: Logger;
  readonly verifier: AccessTokenVerifier;
}): readonly Interceptor[] {
  return [
    // Outermost, so that it sees the code that the caller gets, and all the time taken.
    logCalls(options.logger),
    // Around all that may throw, so that every error leaves in the contract's form.
    mapErrors,
    // Before anything reads the request: strangers get no further.
    admitCalls(options.verifier),
    // Innermost, right before the handler: what it limits is the store's time, not the issuer's.
    limitTime(),
  ];
}
