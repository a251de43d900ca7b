import { createContextKey } from "@connectrpc/connect";

/**
 * The session that a call turned out to be about, where neither its request nor its response says
 * so. To be set only once the secret of the token was found to match: until then anyone may have
 * made up the id in it.
 */
export const provenSessionIdKey = createContextKey<string | undefined>(undefined, {
  description: "which session was proven by its token",
});
