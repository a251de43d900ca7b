import { SESSION_TOKEN_PREFIX } from "@sessiond/core";

const SESSION_TOKENS = new RegExp(`${SESSION_TOKEN_PREFIX}[\\w-]*`, "g");
/** JWTs: the first part of each is the base64url form of `{"`. */
const ACCESS_TOKENS = /\beyJ[\w-]*(\.[\w-]*)*/g;

/** A text of a caller without the tokens in it. Callers put them where they do not belong. */
export function withoutTokens(text: string): string {
  return text
    .replaceAll(SESSION_TOKENS, "[session token]")
    .replaceAll(ACCESS_TOKENS, "[access token]");
}
