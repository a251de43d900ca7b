import { hash } from "node:crypto";
import { invalidArgument } from "../error.js";

/** What the server takes for a credential of another system: see `token_hash` in the contract. */
const CREDENTIAL = /^(?!sst_)[\x21-\x7e]{16,1024}$/;

/** The length of a SHA-256. */
const HASH_BYTES = 32;
const HASH_IN_BASE64URL = /^[\w-]{43}$/;

/**
 * The `tokenHash` of a session that moves in with the credential that its user has: the SHA-256 of
 * the credential, 32 bytes. Where only hashes are stored, use the stored ones.
 *
 * The credential must have at least 128 bits of entropy, as 16 random bytes have. Throws
 * INVALID_ARGUMENT if it has not 16 to 1024 visible ASCII characters, or begins with `sst_`: the
 * server would never accept it.
 */
export function hashCredential(credential: string): Uint8Array {
  if (typeof credential !== "string" || !CREDENTIAL.test(credential)) {
    const expected = "expected 16 to 1024 visible ASCII characters that do not begin with sst_";
    throw invalidArgument("credential", expected);
  }
  return hash("sha256", credential, "buffer");
}

/** The bytes of a `tokenHash`. Throws INVALID_ARGUMENT, and never repeats it. */
export function credentialHashFrom(tokenHash: Uint8Array | string | undefined): Uint8Array {
  const isBase64url = typeof tokenHash === "string" && HASH_IN_BASE64URL.test(tokenHash);
  const bytes = isBase64url ? Buffer.from(tokenHash, "base64url") : tokenHash;
  if (!(bytes instanceof Uint8Array) || bytes.length !== HASH_BYTES) {
    throw invalidArgument("token_hash", "expected the 32 bytes of a SHA-256, or their base64url");
  }
  return bytes;
}
