/**
 * The `features` of `oidc-provider` for services that log in by client credentials and get access
 * tokens (JWTs) for sessiond. `lifetimeS` is how long a token lives; default: the provider's.
 */
export function oidcFeatures({ scope, lifetimeS }: { scope: string; lifetimeS?: number }) {
  return {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => "urn:sessiond",
      getResourceServerInfo: () => ({
        scope,
        audience: "sessiond",
        ...(lifetimeS !== undefined && { accessTokenTTL: lifetimeS }),
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  };
}
