import { type AccessTokenVerifier, createAccessTokenVerifier } from "../auth/access-token.js";

/** A verifier that has the keys of its one issuer, which are none: it knows nobody. */
export function inlineVerifier(): AccessTokenVerifier {
  const keys = { kind: "inline", jwks: '{"keys":[]}' } as const;
  const rules = { audiences: ["sessiond"], algorithms: ["ES256"], clockToleranceMs: 0 };
  const issuers = [{ issuer: "https://issuer.test", keys, ...rules }];
  return createAccessTokenVerifier({ issuers, roles: new Map() });
}
