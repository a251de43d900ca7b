import { createPublicKey } from "node:crypto";
import {
  createLocalJWKSet,
  errors,
  type JSONWebKeySet,
  type JWK,
  type JWTVerifyGetKey,
} from "jose";

/** Issuers have two to ten keys. We look at each when it is needed, and at all if none is good. */
const MAX_KEYS = 256;
/** jose refuses shorter RSA keys, too (RFC 7518, 3.3). */
const MIN_RSA_BITS = 2_048;
const SIGNATURE_KEY_TYPES: readonly unknown[] = ["rsa", "ec", "ed25519"];

/** The public keys of an issuer, read from one JWK Set (RFC 7517, 5). */
export interface KeySet {
  /**
   * Finds the key for a token's header, for jose's `jwtVerify`. Throws jose's
   * JWKSNoMatchingKey or JWKSMultipleMatchingKeys, and an Error that is not of jose if
   * the key cannot be used.
   */
  readonly find: JWTVerifyGetKey;
  /** Equal for sets of the same keys in any order. */
  readonly fingerprint: string;
  /** The ids of the keys that have one. */
  readonly kids: readonly string[];
}

/**
 * Reads the JSON of a JWK Set. Throws an Error that says what is wrong and shows no key. A set
 * without a key that verifies signatures is wrong, too: an issuer in trouble may answer with one, and
 * it must not replace good keys.
 */
export function parseKeySet(text: string): KeySet {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // The parser's message would quote the text.
    throw new Error("expected a JWK Set, got what is not JSON");
  }
  if (!isKeySet(json)) throw new Error('expected a JWK Set: {"keys": [{"kty": …}, …]}');
  if (json.keys.some(isSecret)) {
    throw new Error("expected public keys only; one of them is private or symmetric");
  }
  const { length } = json.keys;
  if (length > MAX_KEYS) throw new Error(`expected at most ${MAX_KEYS} keys, got ${length}`);
  if (!json.keys.some(canVerify)) {
    throw new Error(
      `expected a key that verifies signatures; RSA needs ${MIN_RSA_BITS} bits. None of ${length} does`,
    );
  }
  const fingerprint = json.keys.map((key) => JSON.stringify(key)).sort();
  const kids = json.keys.flatMap(({ kid }) => (typeof kid === "string" ? kid : []));
  return { find: finderOf(json), fingerprint: fingerprint.join("\n"), kids };
}

/** Tells a damaged key, which is the issuer's fault, from a missing one, which may be the token's. */
function finderOf(json: JSONWebKeySet): JWTVerifyGetKey {
  const find = createLocalJWKSet(json);
  return async (header, token) => {
    try {
      return await find(header, token);
    } catch (error) {
      if (error instanceof errors.JWKSNoMatchingKey) throw error;
      if (error instanceof errors.JWKSMultipleMatchingKeys) throw error;
      throw new Error("the key that the token names cannot be used", { cause: error });
    }
  };
}

function isKeySet(json: unknown): json is JSONWebKeySet {
  if (typeof json !== "object" || json === null || !("keys" in json)) return false;
  return Array.isArray(json.keys) && json.keys.every(isKey);
}

function isKey(json: unknown): boolean {
  return typeof json === "object" && json !== null && "kty" in json && typeof json.kty === "string";
}

/** `d` makes an RSA, EC or OKP key private (RFC 7518, 6; RFC 8037), `priv` an AKP key; `k` is a shared secret. */
function isSecret(key: JWK): boolean {
  return key.kty === "oct" || key.k !== undefined || key.d !== undefined || key.priv !== undefined;
}

function canVerify(jwk: JWK): boolean {
  if (jwk.use !== undefined && jwk.use !== "sig") return false;
  try {
    const key = createPublicKey({ key: jwk, format: "jwk" });
    const { modulusLength = MIN_RSA_BITS } = key.asymmetricKeyDetails ?? {};
    return SIGNATURE_KEY_TYPES.includes(key.asymmetricKeyType) && modulusLength >= MIN_RSA_BITS;
  } catch {
    return false;
  }
}
