import { createContextKey } from "@connectrpc/connect";

/** Who calls and what the caller may do, as a verified access token says. */
export interface Caller {
  readonly issuer: string;
  readonly subject: string;
  readonly permissions: ReadonlySet<string>;
}

/** The caller of the call in hand; undefined until authenticated. */
export const callerKey = createContextKey<Caller | undefined>(undefined, {
  description: "who makes the call",
});
