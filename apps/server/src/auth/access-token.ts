import { hash } from "node:crypto";
import { SessiondError } from "@sessiond/core";
import { decodeJwt, errors, type JWTPayload, type JWTVerifyResult, jwtVerify } from "jose";
import type { Caller } from "./caller.js";
import type { AuthConfig, IssuerConfig } from "./issuer.js";
import { IssuerKeys, type IssuerKeysOptions } from "./issuer-keys.js";
import type { KeySet } from "./key-set.js";

/** Longer tokens are refused unread; common ones have 1 to 2 KiB. */
const MAX_TOKEN_LENGTH = 8 * 1024;
/** How many verified tokens are remembered; callers are services, so they are few. */
const MAX_REMEMBERED = 10_000;
/** How long a token is remembered at most, so that those of callers long gone are let go. */
const MAX_REMEMBERED_MS = 5 * 60_000;
/** How many verifications may be under way, or waiting for an issuer's keys. */
const MAX_PENDING = 10_000;
const DEFAULT_TIMEOUT_MS = 5_000;
/** What `typ` may be unless configured: RFC 7519 5.1 and RFC 9068 2.1; not a logout or ID token's. */
const DEFAULT_TYPES: readonly unknown[] = [undefined, "application/jwt", "application/at+jwt"];
const MALFORMED = "the access token is malformed: expected a signed JWT";

/** Verifies callers' access tokens (signed JWTs) and remembers those it verified. */
export interface AccessTokenVerifier {
  /**
   * Answers whose token it is: at once where the token is remembered, otherwise
   * by a promise. All failures are rejections: UNAUTHENTICATED where the token
   * is at fault, saying how but never repeating the token; ISSUER_UNAVAILABLE
   * where the issuer's keys cannot be had; OVERLOADED where too many tokens are
   * being verified.
   */
  verify(token: string): Caller | Promise<Caller>;
  /** Gives up on loading keys; calls that wait for them fail. */
  close(): void;
}

/** What can be set about verifying, besides whose tokens are accepted. */
export interface AccessTokenVerifierOptions {
  /** Milliseconds since the epoch; the system's clock by default. */
  readonly now?: () => number;
  /** How long loading an issuer's keys may take; 5 seconds by default. */
  readonly timeoutMs?: number;
  /** Told of every failure to load keys, for the log: old keys may serve meanwhile. */
  readonly onLoadFailure?: (issuer: string, cause: unknown) => void;
}

interface Issuer {
  readonly config: IssuerConfig;
  readonly keys: IssuerKeys;
}

interface Verified {
  readonly caller: Caller;
  readonly keys: IssuerKeys;
  readonly keySet: KeySet;
  /** When `verify` would refuse the token. */
  readonly refuseTimeMs: number;
}

interface Remembered extends Verified {
  readonly untilMs: number;
}

/**
 * Makes the verifier. A signature costs about 0.1 ms of CPU to verify, so
 * verified tokens are remembered, by their SHA-256 alone, until they expire.
 * They are forgotten earlier when their issuer's keys change: an issuer that
 * drops a leaked key has every token it signed refused within about a minute.
 */
export function createAccessTokenVerifier(
  { issuers, roles }: AuthConfig,
  options: AccessTokenVerifierOptions = {},
): AccessTokenVerifier {
  const now = options.now ?? Date.now;
  const closing = new AbortController();
  const keysOptions: IssuerKeysOptions = {
    now,
    timeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
    closing: closing.signal,
    onLoadFailure: options.onLoadFailure ?? (() => {}),
  };
  const issuersByName = new Map<unknown, Issuer>();
  for (const config of issuers) {
    const keys = new IssuerKeys(config.issuer, config.keys, keysOptions);
    issuersByName.set(config.issuer, { config, keys });
  }
  const remembered = new Map<string, Remembered>();
  const pending = new Map<string, Promise<Caller>>();

  function remember(digest: string, verified: Verified): void {
    const untilMs = Math.min(verified.refuseTimeMs, now() + MAX_REMEMBERED_MS);
    remembered.delete(digest);
    remembered.set(digest, { ...verified, untilMs });
    if (remembered.size <= MAX_REMEMBERED) return;
    const [oldest] = remembered.keys();
    if (oldest !== undefined) remembered.delete(oldest);
  }

  async function verifyAnew(digest: string, token: string): Promise<Caller> {
    try {
      const verified = await verifyToken(token, issuersByName, roles, now);
      remember(digest, verified);
      return verified.caller;
    } finally {
      pending.delete(digest);
    }
  }

  function verify(token: string): Caller | Promise<Caller> {
    if (token === "") return Promise.reject(unauthenticated("an access token is missing"));
    if (token.length > MAX_TOKEN_LENGTH) {
      return Promise.reject(
        unauthenticated(`the access token has more than ${MAX_TOKEN_LENGTH} characters`),
      );
    }
    const digest = hash("sha256", token, "base64");
    const known = remembered.get(digest);
    if (known !== undefined) {
      if (now() < known.untilMs && known.keys.isCurrent(known.keySet)) return known.caller;
      remembered.delete(digest);
    }
    const underWay = pending.get(digest);
    if (underWay !== undefined) return underWay;
    if (pending.size >= MAX_PENDING) {
      return Promise.reject(
        new SessiondError("OVERLOADED", "too many access tokens are being verified"),
      );
    }
    const verifying = verifyAnew(digest, token);
    pending.set(digest, verifying);
    return verifying;
  }

  return { verify, close: () => closing.abort(new Error("the server is stopping")) };
}

async function verifyToken(
  token: string,
  issuers: ReadonlyMap<unknown, Issuer>,
  roles: AuthConfig["roles"],
  now: () => number,
): Promise<Verified> {
  const issuer = issuers.get(claimedIssuer(token));
  if (issuer === undefined) throw unauthenticated("the access token is from an unknown issuer");
  const { config, keys } = issuer;
  const { keySet, result } = await verifySignature(token, issuer, now);
  checkType(config, result.protectedHeader.typ);
  const { sub, exp } = result.payload;
  if (typeof sub !== "string" || sub === "") throw malformedClaim("sub");
  if (exp === undefined || !Number.isFinite(exp)) throw malformedClaim("exp");
  const permissions = permissionsOf(result.payload, roles);
  return {
    caller: { issuer: config.issuer, subject: sub, permissions },
    ...{ keys, keySet },
    // jose counts in whole seconds: it refuses in the first one at or after this.
    refuseTimeMs: Math.ceil(exp + config.clockToleranceMs / 1000) * 1000,
  };
}

/** Not verified yet: it only chooses whose keys and rules the token must satisfy. */
function claimedIssuer(token: string): unknown {
  try {
    return decodeJwt(token).iss;
  } catch {
    throw unauthenticated(MALFORMED);
  }
}

/** Tries the keys at hand, and once more with new ones if the token's key is not among them. */
async function verifySignature(
  token: string,
  { config, keys }: Issuer,
  now: () => number,
): Promise<{ readonly keySet: KeySet; readonly result: JWTVerifyResult }> {
  const keySet = await keys.get();
  try {
    return { keySet, result: await verifyWithKeySet(token, config, keySet, now()) };
  } catch (error) {
    if (!(error instanceof errors.JWKSNoMatchingKey)) throw explain(config, error);
  }
  const newKeySet = await keys.getAfterMiss(keySet);
  try {
    return { keySet: newKeySet, result: await verifyWithKeySet(token, config, newKeySet, now()) };
  } catch (error) {
    throw explain(config, error);
  }
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
    // The token names no key, and the issuer has several of its kind.
    for await (const key of error) {
      try {
        return await jwtVerify(token, key, options);
      } catch (keyError) {
        if (!(keyError instanceof errors.JWSSignatureVerificationFailed)) throw keyError;
      }
    }
    throw new errors.JWSSignatureVerificationFailed();
  }
}

/** `application/` may be left out, and case does not matter (RFC 7515, 4.1.9). */
function checkType(config: IssuerConfig, typ: unknown): void {
  const type = typeof typ === "string" ? mediaType(typ) : typ;
  const isAccepted =
    config.typ === undefined ? DEFAULT_TYPES.includes(type) : type === mediaType(config.typ);
  if (!isAccepted) throw unauthenticated("the token is of another type than an access token");
}

function mediaType(typ: string): string {
  return (typ.includes("/") ? typ : `application/${typ}`).toLowerCase();
}

/** What `scope`, `permissions` and, by way of the configuration, `roles` grant together. */
function permissionsOf(claims: JWTPayload, roles: AuthConfig["roles"]): ReadonlySet<string> {
  const scope = claims["scope"];
  const scopes = typeof scope === "string" ? scope.split(" ").filter((word) => word !== "") : [];
  const ofRoles = texts(claims["roles"]).flatMap((role) => roles.get(role) ?? []);
  return new Set([...scopes, ...texts(claims["permissions"]), ...ofRoles]);
}

function texts(claim: unknown): readonly string[] {
  return Array.isArray(claim) ? claim.filter((value) => typeof value === "string") : [];
}

/** Turns what jose says of a token into words for its caller. */
function explain({ issuer }: IssuerConfig, error: unknown): SessiondError {
  if (error instanceof errors.JOSEError) return unauthenticated(describe(error));
  // No token can bring this about: its issuer published a key that is damaged or too weak.
  const message = `the signing keys of issuer ${issuer} cannot be used`;
  return new SessiondError("ISSUER_UNAVAILABLE", message, { cause: error });
}

function describe(error: errors.JOSEError): string {
  if (error instanceof errors.JWTExpired) return "the access token has expired";
  if (error instanceof errors.JWTClaimValidationFailed) return describeClaim(error);
  if (error instanceof errors.JWSSignatureVerificationFailed) {
    return "the access token's signature is wrong";
  }
  if (error instanceof errors.JWKSNoMatchingKey) {
    return "the access token is signed with a key that its issuer does not have";
  }
  if (error instanceof errors.JOSEAlgNotAllowed) {
    return "the access token is signed with an algorithm that is not accepted";
  }
  return MALFORMED;
}

function describeClaim({ claim, reason }: errors.JWTClaimValidationFailed): string {
  if (reason === "missing") return `the access token has no claim "${claim}"`;
  if (reason === "invalid") return `the access token's claim "${claim}" is malformed`;
  if (claim === "aud") return "the access token is for another audience";
  if (claim === "nbf") return "the access token is not valid yet";
  return `the access token's claim "${claim}" is not accepted`;
}

function malformedClaim(claim: string): SessiondError {
  return unauthenticated(`the access token's claim "${claim}" is malformed`);
}

/** Without a cause: jose's errors carry the token's claims, which are for no log. */
function unauthenticated(message: string): SessiondError {
  return new SessiondError("UNAUTHENTICATED", message);
}
