import { createContextKey } from "@connectrpc/connect";

/** Who calls, and what they may do: what a verified access token says. */
export interface Caller {
  readonly issuer: string;
  readonly subject: string;
  readonly permissions: ReadonlySet<string>;
}

/** Who makes the call; undefined until the caller is authenticated. */
export const callerKey = createContextKey<Caller | undefined>(undefined, {
  description: "who makes the call",
});
