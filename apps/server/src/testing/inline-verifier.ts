import { generateKeyPairSync } from "node:crypto";
import { type AccessTokenVerifier, createAccessTokenVerifier } from "../auth/access-token.js";

/** A verifier that has the keys of its one issuer, which nobody signs with: it knows nobody. */
export function inlineVerifier(): AccessTokenVerifier {
  const { publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const jwks = JSON.stringify({ keys: [publicKey.export({ format: "jwk" })] });
  const rules = { audiences: ["sessiond"], algorithms: ["ES256"], clockToleranceMs: 0 };
  const issuers = [
    { issuer: "https://issuer.test", keys: { kind: "inline", jwks } as const, ...rules },
  ];
  return createAccessTokenVerifier({ issuers, roles: new Map() });
}
