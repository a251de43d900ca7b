/** The part of oidc-provider that tests use. The package has no types. */
declare module "oidc-provider" {
  import type { RequestListener } from "node:http";

  export default class Provider {
    constructor(issuer: string, configuration: Readonly<Record<string, unknown>>);
    /** Takes part in every answer, as middleware of Koa. */
    use(
      middleware: (
        context: { readonly path: string; body?: unknown },
        next: () => Promise<void>,
      ) => Promise<void>,
    ): void;
    on(event: "refresh_token.destroyed", listener: (token: { readonly jti: string }) => void): void;
    callback(): RequestListener;
  }
}
