import { hash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { isNamespace, quote, SessiondError, withoutSecrets } from "@sessiond/core";
import { decodeJwt, decodeProtectedHeader, type JWTPayload } from "jose";
import type { Caller } from "./caller.js";
import { claimAt } from "./claims.js";
import { type AuthConfig, type IssuerConfig, NAMESPACE_SYNTAX } from "./issuer.js";
import { type AroundKeyLoad, IssuerKeys, type KeyChanges } from "./issuer-keys.js";
import type { KeySet } from "./key-set.js";
import {
  MALFORMED_TOKEN,
  malformedClaim,
  RefusedToken,
  TOKENS_PENDING,
  unauthenticated,
} from "./token-refusals.js";
import { verifySignature } from "./token-signature.js";

/** Longer tokens are refused unread; common ones have 1 to 2 KiB. */
const MAX_TOKEN_LENGTH = 8 * 1024;
/** Callers are services, so they have few tokens. */
const MAX_REMEMBERED = 10_000;
/** After this, a token is verified again. It bounds how long unused tokens take up memory. */
const MAX_REMEMBERED_MS = 5 * 60_000;
/** How many tokens may be verified, or wait for keys, at the same time. */
const MAX_PENDING = 10_000;
/** How many known issuers a refusal names. This and the next line bound its length. */
const MAX_NAMED_ISSUERS = 3;
/** Entra's issuers have 75 characters, and differ in the last ones. */
const MAX_NAMED_LENGTH = 128;
/** So many characters of a key's id are logged. Ids are names, or thumbprints of 43 characters. */
export const MAX_KID_LENGTH = 64;
const NOT_PRINTABLE = /[^ -~]/g;
const DEFAULT_TIMEOUT_MS = 5_000;
const DEFAULT_ANSWER_WAIT_MS = 1_000;
const DEFAULT_KEYS_MAX_AGE_MS = 24 * 3_600_000;
/** The values of `typ` that access tokens have (RFC 7519, 5.1; RFC 9068, 2.1): no ID or logout token. */
const DEFAULT_TYPES: readonly unknown[] = [undefined, "application/jwt", "application/at+jwt"];

/** Verifies callers' access tokens (signed JWTs) and remembers the verified ones. */
export interface AccessTokenVerifier {
  /**
   * Returns the caller whose token it is: directly if the token is remembered,
   * otherwise as a promise. Never throws. Rejects with UNAUTHENTICATED if the token is
   * at fault (the message says why and never repeats the token), ISSUER_UNAVAILABLE if
   * the issuer's keys are missing or unusable, OVERLOADED if too many tokens are
   * being verified.
   */
  verify(token: string): Caller | Promise<Caller>;
  /**
   * Accepts the tokens of these issuers from now on, and no others. Forgets the verified tokens, but
   * not the keys of an issuer whose keys come from the same place.
   */
  accept(auth: AuthConfig): void;
  /** When each accepted issuer's keys were last loaded, in ms since the epoch, if ever. */
  keyLoadTimesMs(): ReadonlyMap<string, number | undefined>;
  /** The issuers whose keys were needed and could never be loaded. Starts to load them again. */
  retryMissingKeys(): readonly string[];
  /** Ends loads of keys; calls that wait for them fail. */
  close(): void;
}

/** What `createAccessTokenVerifier` takes besides the accepted issuers. */
export interface AccessTokenVerifierOptions {
  /** Milliseconds since the epoch; the system's clock by default. */
  readonly now?: () => number;
  /** The time limit of one load of an issuer's keys; 5 seconds by default. */
  readonly timeoutMs?: number;
  /** For how long calls wait for an issuer's answer; 1 second by default. */
  readonly answerWaitMs?: number | undefined;
  /** For how long an issuer's keys are used while it cannot be reached; 24 hours by default. */
  readonly keysMaxAgeMs?: number;
  /** Called after every failed load of keys, for the log: old keys may hide the failure. */
  readonly onLoadFailure?: (issuer: string, cause: unknown) => void;
  /** Called when a load found other keys than the one before. */
  readonly onKeysChanged?: (issuer: string, changes: KeyChanges) => void;
  /** Runs each load of an issuer's keys. By default nothing is done around it. */
  readonly aroundLoad?: AroundKeyLoad | undefined;
}

interface Issuer {
  readonly config: IssuerConfig;
  readonly keys: IssuerKeys;
}

interface Verified {
  readonly caller: Caller;
  readonly keys: IssuerKeys;
  readonly keySet: KeySet;
  /** From this time on the token must be verified again. */
  readonly untilMs: number;
}

/** The accepted issuers, and the tokens that were verified by their rules. */
interface Acceptance {
  readonly issuers: ReadonlyMap<unknown, Issuer>;
  readonly roles: AuthConfig["roles"];
  // Both by the tokens' SHA-256; no token is in both.
  readonly remembered: Map<string, Verified>;
  readonly pending: Map<string, Promise<Caller>>;
}

/**
 * Makes the verifier. To verify a signature costs about 0.1 ms of CPU, so the verifier
 * remembers tokens, by their SHA-256 alone, until they expire or their issuer's keys
 * change. An issuer that withdraws a leaked key ends all of its tokens within two minutes.
 */
export function createAccessTokenVerifier(
  auth: AuthConfig,
  options: AccessTokenVerifierOptions = {},
): AccessTokenVerifier {
  const { now = Date.now, timeoutMs = DEFAULT_TIMEOUT_MS, onLoadFailure = () => {} } = options;
  const { answerWaitMs = DEFAULT_ANSWER_WAIT_MS, aroundLoad, onKeysChanged } = options;
  const { keysMaxAgeMs: maxAgeMs = DEFAULT_KEYS_MAX_AGE_MS } = options;
  const closing = new AbortController();
  const keysOptions = {
    now,
    timeoutMs,
    answerWaitMs,
    maxAgeMs,
    onLoadFailure,
    onKeysChanged,
    aroundLoad,
    closing: closing.signal,
  };
  let accepted = acceptanceOf(auth, new Map());

  function acceptanceOf(
    { issuers, roles }: AuthConfig,
    known: ReadonlyMap<unknown, Issuer>,
  ): Acceptance {
    const issuersByName = new Map<unknown, Issuer>();
    for (const config of issuers) {
      const before = known.get(config.issuer);
      const hasSameSource = before && isDeepStrictEqual(before.config.keys, config.keys);
      const keys = hasSameSource
        ? before.keys
        : new IssuerKeys(config.issuer, config.keys, keysOptions);
      issuersByName.set(config.issuer, { config, keys });
    }
    return { issuers: issuersByName, roles, remembered: new Map(), pending: new Map() };
  }

  /** Remembers the token where it was asked for: by then, other rules may hold. */
  async function verifyAndRemember(
    { issuers, roles, remembered, pending }: Acceptance,
    digest: string,
    token: string,
  ): Promise<Caller> {
    try {
      const verified = await verifyToken(token, issuers, roles, now);
      const untilMs = Math.min(verified.untilMs, now() + MAX_REMEMBERED_MS);
      remembered.set(digest, { ...verified, untilMs });
      const [oldest = digest] = remembered.keys();
      if (remembered.size > MAX_REMEMBERED) remembered.delete(oldest);
      return verified.caller;
    } finally {
      pending.delete(digest);
    }
  }

  function verify(token: string): Caller | Promise<Caller> {
    if (token === "")
      return Promise.reject(unauthenticated("missing", "an access token is missing"));
    if (token.length > MAX_TOKEN_LENGTH) {
      return Promise.reject(
        unauthenticated(
          "malformed",
          `the access token has more than ${MAX_TOKEN_LENGTH} characters`,
        ),
      );
    }
    const { remembered, pending } = accepted;
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
        new SessiondError("OVERLOADED", "too many access tokens are being verified", {
          detail: TOKENS_PENDING,
        }),
      );
    }
    const verifying = verifyAndRemember(accepted, digest, token);
    pending.set(digest, verifying);
    return verifying;
  }

  return {
    verify,
    accept: (next) => {
      accepted = acceptanceOf(next, accepted.issuers);
    },
    keyLoadTimesMs: () =>
      new Map([...accepted.issuers].map(([issuer, { keys }]) => [String(issuer), keys.loadTimeMs])),
    retryMissingKeys: () => {
      const missing = [...accepted.issuers.values()].filter(({ keys }) => keys.areMissing);
      // A failure is noted and reported where it happens.
      for (const { keys } of missing) keys.get().catch(() => undefined);
      return missing.map(({ config }) => config.issuer);
    },
    close: () => closing.abort(new Error("the server is stopping")),
  };
}

async function verifyToken(
  token: string,
  issuers: ReadonlyMap<unknown, Issuer>,
  roles: AuthConfig["roles"],
  now: () => number,
): Promise<Verified> {
  const claimed = claimedIssuer(token);
  const issuer = issuers.get(claimed);
  if (issuer === undefined) throw unknownIssuer(claimed, issuers);
  try {
    return await verifyByRules(token, issuer, roles, now);
  } catch (error) {
    if (!(error instanceof SessiondError) || error.reason !== "UNAUTHENTICATED") throw error;
    throw new RefusedToken(error, issuer.config.issuer, claimedKid(token, issuer.keys));
  }
}

async function verifyByRules(
  token: string,
  issuer: Issuer,
  roles: AuthConfig["roles"],
  now: () => number,
): Promise<Verified> {
  const { config, keys } = issuer;
  const { keySet, result } = await verifySignature(token, issuer, now);
  checkType(config, result.protectedHeader.typ);
  const { sub, exp } = result.payload;
  if (typeof sub !== "string" || sub === "") throw malformedClaim("sub");
  if (exp === undefined || !Number.isFinite(exp)) throw malformedClaim("exp");
  const namespace = namespaceOf(config, result.payload);
  const permissions = permissionsOf(config, result.payload, roles);
  return {
    caller: { issuer: config.issuer, subject: sub, namespace, permissions },
    ...{ keys, keySet },
    untilMs: exp * 1000 + config.clockToleranceMs,
  };
}

/** Not verified yet: only chooses the keys and rules that the token must satisfy. */
function claimedIssuer(token: string): unknown {
  try {
    return decodeJwt(token).iss;
  } catch {
    throw unauthenticated("malformed", MALFORMED_TOKEN);
  }
}

/**
 * For the log. An id that the issuer publishes, or did lately, is no secret. Any other may be
 * something in the wrong place.
 */
function claimedKid(token: string, keys: IssuerKeys): string | undefined {
  try {
    const { kid } = decodeProtectedHeader(token);
    if (typeof kid !== "string") return undefined;
    const harmless = keys.hasPublished(kid) ? kid : withoutSecrets(kid);
    return harmless.replace(NOT_PRINTABLE, "?").slice(0, MAX_KID_LENGTH);
  } catch {
    return undefined;
  }
}

/** Often the two differ by a slash at the end, which only those who see both notice. */
function unknownIssuer(claimed: unknown, issuers: ReadonlyMap<unknown, Issuer>): SessiondError {
  const known = [...issuers.values()].map(({ config }) => quote(config.issuer, MAX_NAMED_LENGTH));
  const more = known.length - MAX_NAMED_ISSUERS;
  const list = known.slice(0, MAX_NAMED_ISSUERS).join(", ") + (more > 0 ? ` and ${more} more` : "");
  const seen = typeof claimed === "string" ? quote(claimed, MAX_NAMED_LENGTH) : "no text";
  return unauthenticated(
    "unknown_issuer",
    `the access token is from an unknown issuer: its claim "iss" is ${seen}, known issuers: ${list}`,
  );
}

function checkType(config: IssuerConfig, typ: unknown): void {
  const type = typeof typ === "string" ? mediaType(typ) : typ;
  const isAccepted =
    config.typ === undefined ? DEFAULT_TYPES.includes(type) : type === mediaType(config.typ);
  if (!isAccepted)
    throw unauthenticated("type", "the token is of another type than an access token");
}

/** The prefix `application/` is optional, and case does not matter (RFC 7515, 4.1.9). */
function mediaType(typ: string): string {
  return (typ.includes("/") ? typ : `application/${typ}`).toLowerCase();
}

/**
 * There is no namespace for a token that fails to name one. To fall back to the issuer's other
 * callers' would show it their sessions.
 */
function namespaceOf({ namespace = "", namespaceClaim }: IssuerConfig, claims: JWTPayload): string {
  if (namespaceClaim === undefined) return namespace;
  const name = claimAt(claims, namespaceClaim);
  if (typeof name === "string" && name !== "" && isNamespace(name)) return name;
  const claim = `claim "${namespaceClaim.join(".")}"`;
  throw unauthenticated(
    "namespace",
    name === undefined
      ? `the access token has no ${claim}, which must name the caller's namespace`
      : `the access token's ${claim} is not the name of a namespace: expected ${NAMESPACE_SYNTAX}`,
  );
}

/** All permissions that the token lists, and those that its roles grant. */
function permissionsOf(
  { permissionsClaim, rolesClaim }: IssuerConfig,
  claims: JWTPayload,
  roles: AuthConfig["roles"],
): ReadonlySet<string> {
  const listed =
    permissionsClaim === undefined
      ? [...words(claims["scope"]), ...texts(claims["permissions"])]
      : names(claimAt(claims, permissionsClaim));
  const roleNames =
    rolesClaim === undefined ? texts(claims["roles"]) : names(claimAt(claims, rolesClaim));
  return new Set([...listed, ...roleNames.flatMap((role) => roles.get(role) ?? [])]);
}

/** Entra separates the scopes of `scp` by spaces, Okta lists them: a configured claim may be either. */
function names(claim: unknown): readonly string[] {
  return [...words(claim), ...texts(claim)];
}

function words(claim: unknown): readonly string[] {
  return typeof claim === "string" ? claim.split(" ").filter((word) => word !== "") : [];
}

function texts(claim: unknown): readonly string[] {
  return Array.isArray(claim) ? claim.filter((value) => typeof value === "string") : [];
}
