import { sessionNotFound } from "../errors.js";
import { checkRequired } from "../validation.js";
import { hashCredential, idOfCredential } from "./credential.js";
import type { SessionKey, SessionStore } from "./session-store.js";
import { hashSecret, parseSessionToken, SESSION_TOKEN_PREFIX } from "./session-token.js";

/** What a token claims. It proves nothing until the store has confirmed the hash. */
export interface TokenProof {
  readonly key: SessionKey;
  /** The hash that the session must have, or must remember as replaced and in its grace. */
  readonly tokenHash: Uint8Array;
}

/**
 * Reads a session token, or the credential of a session that moved in. Hashes before anybody knows
 * whether the session exists, so the time taken reveals nothing. Throws SESSION_NOT_FOUND for a
 * malformed token. No promise for our own tokens: it would cost the hot path a turn.
 */
export function proofOf(store: SessionStore, token: string): TokenProof | Promise<TokenProof> {
  checkRequired("token", token);
  if (!token.startsWith(SESSION_TOKEN_PREFIX)) return proofOfCredential(store, token);
  const parsed = parseSessionToken(token);
  if (parsed === undefined) throw sessionNotFound();
  const key = { partition: parsed.partition, id: parsed.sessionId };
  return { key, tokenHash: hashSecret(parsed.secret) };
}

/**
 * The id of the session that a token claims. Log it only once the store has accepted the token:
 * anyone can make up the id in a token, and the id of a credential tells whoever guesses it.
 */
export function sessionIdOfToken(token: string): string | undefined {
  if (token.startsWith(SESSION_TOKEN_PREFIX)) return parseSessionToken(token)?.sessionId;
  const tokenHash = hashCredential(token);
  return tokenHash && idOfCredential(tokenHash);
}

async function proofOfCredential(store: SessionStore, credential: string): Promise<TokenProof> {
  const tokenHash = hashCredential(credential);
  if (tokenHash === undefined) throw sessionNotFound();
  const id = idOfCredential(tokenHash);
  const partition = await store.partitionOf(id);
  if (partition === undefined) throw sessionNotFound();
  return { key: { partition, id }, tokenHash };
}
