import { invalidArgument, nameOf, SessiondError } from "../error.js";

/**
 * A session token as a caller has it. A request without a cookie has none, which is no session
 * like any other token that proves nothing.
 */
export type PresentedToken = string | null | undefined;

/**
 * The token to send, or undefined if the value cannot be a token of any session. Throws
 * INVALID_ARGUMENT for what is not even a text, which is a mistake of the program.
 */
export function sendableToken(token: PresentedToken, field: string): string | undefined {
  if (typeof token === "string") {
    return token !== "" && token.isWellFormed() ? token : undefined;
  }
  if (token === undefined || token === null) return undefined;
  throw invalidArgument(field, `expected a string, not ${nameOf(token)}`);
}

/** The error for a token that cannot be any session's, the same as the server's for a wrong one. */
export function sessionNotFound(): SessiondError {
  return new SessiondError("SESSION_NOT_FOUND", "session not found");
}

/** As `sendableToken`, for each token of a batch. */
export function sendableTokens(
  tokens: readonly PresentedToken[],
  field: string,
): (string | undefined)[] {
  if (!Array.isArray(tokens)) throw invalidArgument(field, "expected an array of tokens");
  return tokens.map((token: PresentedToken, index) => sendableToken(token, `${field}[${index}]`));
}

/** Turns SESSION_NOT_FOUND, and nothing else, into undefined. */
export function foundOrUndefined<T>(found: Promise<T>): Promise<T | undefined> {
  return found.catch(undefinedIfGone);
}

function undefinedIfGone(error: unknown): undefined {
  if (error instanceof SessiondError && error.reason === "SESSION_NOT_FOUND") return undefined;
  throw error;
}
