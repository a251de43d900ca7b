import type { KeySource } from "./key-source.js";

/** Whose access tokens are accepted, and what they permit. */
export interface AuthConfig {
  readonly issuers: readonly IssuerConfig[];
  /** The permissions that a role grants. */
  readonly roles: ReadonlyMap<string, readonly string[]>;
}

/** One issuer of access tokens, and what its tokens must look like. */
export interface IssuerConfig {
  /** Exactly what tokens have as `iss`. */
  readonly issuer: string;
  /** One of these must be among a token's `aud`. */
  readonly audiences: readonly string[];
  /** The signature algorithms that are accepted, all of them asymmetric. */
  readonly algorithms: readonly string[];
  readonly keys: KeySource;
  /** What a token's `typ` must be. When undefined: absent, `JWT` or `at+jwt`. */
  readonly typ?: string;
  /** How far the issuer's clock may be from this one. */
  readonly clockToleranceMs: number;
}

/** What the signature algorithms of access tokens can be. */
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
