import { createContextKey } from "@connectrpc/connect";

/**
 * The session id of a call, for the log, if only the request's token names the session. Set it
 * after the token's secret has matched: anyone can make up the id in a token.
 */
export const provenSessionIdKey = createContextKey<string | undefined>(undefined, {
  description: "which session was proven by its token",
});
