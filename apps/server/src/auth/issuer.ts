import type { ClaimPath } from "./claims.js";
import type { KeySource } from "./key-source.js";

/** The issuers whose access tokens are accepted, and what roles permit. */
export interface AuthConfig {
  readonly issuers: readonly IssuerConfig[];
  /** The permissions that a role grants. */
  readonly roles: ReadonlyMap<string, readonly string[]>;
}

/** One issuer of access tokens, and the rules for its tokens. */
export interface IssuerConfig {
  /** The exact `iss` of its tokens. */
  readonly issuer: string;
  /** A token's `aud` must contain one of these. */
  readonly audiences: readonly string[];
  /** The accepted signature algorithms, some of `ALGORITHMS`. */
  readonly algorithms: readonly string[];
  readonly keys: KeySource;
  /** The `typ` that tokens must have. When undefined: none, `JWT` or `at+jwt`. */
  readonly typ?: string | undefined;
  /** The claim that lists permissions. When undefined: `scope` and `permissions`. */
  readonly permissionsClaim?: ClaimPath | undefined;
  /** The claim that lists roles. When undefined: `roles`. */
  readonly rolesClaim?: ClaimPath | undefined;
  /** The namespace of all its callers. When this and `namespaceClaim` are undefined: "". */
  readonly namespace?: string | undefined;
  /** The claim that names a caller's namespace. A token without a valid name there is refused. */
  readonly namespaceClaim?: ClaimPath | undefined;
  /** How far the issuer's clock may be from the server's. */
  readonly clockToleranceMs: number;
}

/** The signature algorithms that an issuer can use: all asymmetric, so that verifiers cannot sign. */
export const ALGORITHMS: readonly string[] = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
  "Ed25519",
];

/** The names that a namespace can have, for messages; `isNamespace` decides. */
export const NAMESPACE_SYNTAX =
  "1 to 64 characters out of a-z 0-9 . _ - that begin with a letter or a digit";
