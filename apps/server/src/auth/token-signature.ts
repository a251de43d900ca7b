import { SessiondError } from "@sessiond/core";
import {
  type CryptoKey,
  decodeProtectedHeader,
  errors,
  type JWTVerifyResult,
  jwtVerify,
} from "jose";
import type { IssuerConfig } from "./issuer.js";
import type { IssuerKeys } from "./issuer-keys.js";
import type { KeySet } from "./key-set.js";
import { MALFORMED_TOKEN, malformedClaim, unauthenticated } from "./token-refusals.js";

/**
 * How many keys are tried for a token that names none. Issuers without key ids have two while they
 * change them. Each try costs CPU, and anyone can send such a token.
 */
const MAX_KEYS_TRIED = 4;

/**
 * Checks a token's signature and times by its issuer's current keys, and once more after a reload if
 * they lack the token's key. Throws UNAUTHENTICATED or ISSUER_UNAVAILABLE.
 */
export async function verifySignature(
  token: string,
  { config, keys }: { readonly config: IssuerConfig; readonly keys: IssuerKeys },
  now: () => number,
): Promise<{ readonly keySet: KeySet; readonly result: JWTVerifyResult }> {
  const keySet = await keys.get();
  try {
    return { keySet, result: await verifyWithKeySet(token, config, keySet, now()) };
  } catch (error) {
    const reloaded = isMiss(error, token) ? await keys.getAfterMiss(keySet) : keySet;
    if (reloaded === keySet) throw explain(config, error);
    try {
      const result = await verifyWithKeySet(token, config, reloaded, now());
      return { keySet: reloaded, result };
    } catch (secondError) {
      throw explain(config, secondError);
    }
  }
}

/** Whether the issuer may have a newer key that verifies the token. Not if the token names its key. */
function isMiss(error: unknown, token: string): boolean {
  if (error instanceof errors.JWKSNoMatchingKey) return true;
  const isWrong = error instanceof errors.JWSSignatureVerificationFailed;
  return isWrong && decodeProtectedHeader(token).kid === undefined;
}

async function verifyWithKeySet(
  token: string,
  config: IssuerConfig,
  keySet: KeySet,
  nowMs: number,
): Promise<JWTVerifyResult> {
  const options = {
    algorithms: [...config.algorithms],
    issuer: config.issuer,
    audience: [...config.audiences],
    requiredClaims: ["exp", "sub"],
    clockTolerance: config.clockToleranceMs / 1000,
    currentDate: new Date(nowMs),
  };
  try {
    return await jwtVerify(token, keySet.find, options);
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
    // The token names no key, and the issuer has several keys of its kind.
    for (const key of await firstKeys(error)) {
      try {
        return await jwtVerify(token, key, options);
      } catch (keyError) {
        const isOtherFault = keyError instanceof errors.JOSEError;
        const isWrong = keyError instanceof errors.JWSSignatureVerificationFailed;
        // What is not of jose is a weak key: another one may be the token's.
        if (isOtherFault && !isWrong) throw keyError;
      }
    }
    throw new errors.JWSSignatureVerificationFailed();
  }
}

/** Refuses at once to look for a key among many, as nobody can try a few of them and be right. */
async function firstKeys(found: errors.JWKSMultipleMatchingKeys): Promise<readonly CryptoKey[]> {
  const keys: CryptoKey[] = [];
  for await (const key of found) {
    if (keys.length === MAX_KEYS_TRIED) {
      const message = `the access token names no key, and its issuer has more than ${MAX_KEYS_TRIED} of the kind`;
      throw unauthenticated("unknown_key", message);
    }
    keys.push(key);
  }
  return keys;
}

/** Translates an error of jose for the caller. */
function explain({ issuer }: IssuerConfig, error: unknown): SessiondError {
  if (error instanceof SessiondError) return error;
  if (error instanceof errors.JOSEError) return refusalOf(error);
  // Not the token's fault: the issuer published a damaged or weak key.
  const message = `the signing keys of issuer ${issuer} cannot be used`;
  return new SessiondError("ISSUER_UNAVAILABLE", message, { cause: error });
}

function refusalOf(error: errors.JOSEError): SessiondError {
  if (error instanceof errors.JWTExpired) {
    return unauthenticated("expired", "the access token has expired");
  }
  if (error instanceof errors.JWTClaimValidationFailed) return claimRefusal(error);
  if (error instanceof errors.JWSSignatureVerificationFailed) {
    return unauthenticated("signature", "the access token's signature is wrong");
  }
  if (error instanceof errors.JWKSNoMatchingKey) {
    const message = "the access token is signed with a key that its issuer does not have";
    return unauthenticated("unknown_key", message);
  }
  if (error instanceof errors.JOSEAlgNotAllowed) {
    const message = "the access token is signed with an algorithm that is not accepted";
    return unauthenticated("algorithm", message);
  }
  return unauthenticated("malformed", MALFORMED_TOKEN);
}

function claimRefusal({ claim, reason }: errors.JWTClaimValidationFailed): SessiondError {
  if (reason === "missing") {
    return unauthenticated("claim", `the access token has no claim "${claim}"`);
  }
  if (reason === "invalid") return malformedClaim(claim);
  if (claim === "aud") {
    return unauthenticated("audience", "the access token is for another audience");
  }
  if (claim === "nbf") return unauthenticated("not_yet_valid", "the access token is not valid yet");
  return unauthenticated("claim", `the access token's claim "${claim}" is not accepted`);
}
