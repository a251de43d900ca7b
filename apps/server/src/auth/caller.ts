import { createContextKey } from "@connectrpc/connect";

/** Who calls and what the caller may do, as a verified access token says. */
export interface Caller {
  readonly issuer: string;
  readonly subject: string;
  /**
   * The namespace that the caller's sessions, locks and rate limits belong to, as the issuer's entry
   * in the auth file decides. "" if the entry names none.
   */
  readonly namespace: string;
  readonly permissions: ReadonlySet<string>;
}

/** The caller of the call in hand; undefined until authenticated. */
export const callerKey = createContextKey<Caller | undefined>(undefined, {
  description: "who makes the call",
});

/** A text that is unique for each pair of issuer and subject. */
export function nameOf(caller: Caller | undefined): string {
  return JSON.stringify([caller?.issuer, caller?.subject]);
}
