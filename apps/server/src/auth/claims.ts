/** The names that lead to a claim of a token, the outermost first. */
export type ClaimPath = readonly string[];

/**
 * Reads the path of a claim, such as `azp` or `realm_access.roles`. A name with a colon is a URI and
 * has dots of its own, so it is not divided (RFC 7519, 4.2). Throws an Error if a name is empty.
 */
export function parseClaimPath(text: string): ClaimPath {
  const path = text.includes(":") ? [text] : text.split(".");
  if (path.includes("")) {
    throw new Error("expected the name of a claim, such as azp or realm_access.roles");
  }
  return path;
}

/** The claim at `path`. Undefined if the token has none. */
export function claimAt(claims: object, path: ClaimPath): unknown {
  let value: unknown = claims;
  for (const name of path) {
    // Only the token's own names: every object inherits a `constructor`.
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, name))
      return undefined;
    value = (value as Readonly<Record<string, unknown>>)[name];
  }
  return value;
}
