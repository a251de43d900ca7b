import { invalidArgument } from "../errors.js";
import { fingerprintOf } from "./fingerprint.js";
import type { Keyring } from "./keyring.js";
import {
  REQUEST_KEPT_FOR_MS,
  requestKey,
  sealRequest,
  secretOfRepetition,
} from "./once-request.js";
import { MAX_GRACE_MS } from "./replaced-tokens.js";
import type { Session } from "./session.js";
import { unsealSession } from "./session-record.js";
import type { SessionKey, SessionStore } from "./session-store.js";
import { formatSessionToken, generateSecret, hashSecret } from "./session-token.js";
import type { TokenProof } from "./token-proof.js";

/** Options of `Sessions.rotateToken`. */
export interface RotateToken {
  /** How long the old token still proves the session: 0 (the default) to 60,000 ms. */
  readonly graceMs?: number | undefined;
  /** A repetition within 10 minutes answers the same token. */
  readonly requestId?: string | undefined;
  /** The caller's name. Two callers never share a request id. */
  readonly caller?: string | undefined;
}

/** The result of `Sessions.rotateToken`. */
export interface RotatedToken {
  readonly session: Session;
  readonly token: string;
}

/** Throws INVALID_ARGUMENT unless `graceMs` is a whole number of ms within the limit. */
export function checkGrace(field: string, graceMs: number): void {
  if (!Number.isInteger(graceMs) || graceMs < 0 || graceMs > MAX_GRACE_MS) {
    throw invalidArgument(field, `expected 0 to ${MAX_GRACE_MS / 1000} s, in whole milliseconds`);
  }
}

/** Replaces a token. Undefined if the proof is not of an active session's own token. */
export async function replaceToken(
  store: SessionStore,
  keyring: Keyring,
  proof: TokenProof,
  { graceMs = 0, requestId, caller = "" }: RotateToken,
): Promise<RotatedToken | undefined> {
  const { key, tokenHash } = proof;
  const secret = generateSecret();
  const newTokenHash = hashSecret(secret);
  if (requestId === undefined) {
    const session = await store.rotateToken(key, tokenHash, newTokenHash, graceMs);
    return session && { session: unsealSession(keyring, session), token: tokenOf(key, secret) };
  }

  const name = requestKey(caller, requestId);
  const purpose = `rotation of ${key.id}\0${name}`;
  const fingerprint = fingerprintOf([Buffer.from(tokenHash).toString("hex"), graceMs]);
  const record = sealRequest(keyring, purpose, { fingerprint, secret });
  const request = { key: name, record, keptForMs: REQUEST_KEPT_FOR_MS };
  const rotated = await store.rotateTokenOnce(request, key, tokenHash, newTokenHash, graceMs);
  if (rotated === undefined) return undefined;
  if (!("repeated" in rotated)) {
    return { session: unsealSession(keyring, rotated), token: tokenOf(key, secret) };
  }
  const firstSecret = secretOfRepetition(keyring, purpose, rotated.repeated, fingerprint);
  return { session: unsealSession(keyring, rotated.session), token: tokenOf(key, firstSecret) };
}

function tokenOf({ partition, id }: SessionKey, secret: Uint8Array): string {
  return formatSessionToken({ partition, sessionId: id, secret });
}
