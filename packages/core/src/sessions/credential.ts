import { hash } from "node:crypto";

/** Ids of sessions that moved in begin with this. */
export const MOVED_IN_ID_PREFIX = "ext:";

/** The length of SHA-256. */
const HASH_BYTES = 32;

/** Visible ASCII characters, as in cookies and headers. */
const CREDENTIAL = /^[\x21-\x7e]{16,1024}$/;

/** The hash of a credential that another system made. Undefined if it cannot be one. */
export function hashCredential(text: string): Uint8Array | undefined {
  return CREDENTIAL.test(text) ? hash("sha256", text, "buffer") : undefined;
}

/** Whether bytes can be the hash of a credential. */
export function isCredentialHash(bytes: Uint8Array): boolean {
  return bytes.length === HASH_BYTES;
}

/**
 * The id of the session that moves in with a credential. It follows from the hash, so that the
 * credential alone finds the session, and it is another hash, so that it proves nothing.
 */
export function idOfCredential(credentialHash: Uint8Array): string {
  return MOVED_IN_ID_PREFIX + hash("sha256", credentialHash, "base64url");
}
