import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import {
  type CryptoKey,
  exportJWK,
  generateKeyPair,
  type JWK,
  type JWTHeaderParameters,
  SignJWT,
} from "jose";

/** What a test token says beyond what the issuer fills in. A claim set to undefined is left out. */
export interface TestToken {
  /** The key to sign with; the latest by default. */
  readonly kid?: string;
  readonly claims?: Readonly<Record<string, unknown>>;
  readonly header?: Readonly<Record<string, unknown>>;
}

interface SigningKey {
  readonly alg: string;
  readonly privateKey: CryptoKey;
  readonly jwk: JWK;
}

/**
 * An issuer of access tokens for tests, on a real port: it serves a discovery
 * document and a JWK Set, and signs with real keys. Times come from `now`.
 */
export class TestIssuer {
  readonly #server: Server;
  readonly #keys = new Map<string, SigningKey>();
  readonly #now: () => number;
  /** The paths that were asked for. */
  readonly requests: string[] = [];
  /** The keys that the issuer publishes; those it signs with unless changed. */
  published: JWK[] = [];
  /** Answers in place of the issuer, when set. */
  respond: RequestListener | undefined;

  private constructor(server: Server, now: () => number) {
    this.#server = server;
    this.#now = now;
  }

  static async start(now: () => number = Date.now): Promise<TestIssuer> {
    const server = createServer();
    const issuer = new TestIssuer(server, now);
    server.on("request", (request, response) => {
      issuer.requests.push(request.url ?? "");
      if (issuer.respond !== undefined) return issuer.respond(request, response);
      response.end(JSON.stringify(issuer.#document(request.url)));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return issuer;
  }

  get url(): string {
    const { port } = this.#server.address() as AddressInfo;
    return `http://127.0.0.1:${port}`;
  }

  get jwksUrl(): string {
    return `${this.url}/jwks`;
  }

  get jwks(): string {
    return JSON.stringify({ keys: this.published });
  }

  /** Makes a key and publishes it. Answers its public half. */
  async addKey(kid: string, alg = "ES256"): Promise<JWK> {
    const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
    const jwk = { ...(await exportJWK(publicKey)), kid, alg, use: "sig" };
    this.#keys.set(kid, { alg, privateKey, jwk });
    this.published.push(jwk);
    return jwk;
  }

  /** Does not publish the key any more; tokens can still be signed with it. */
  withdrawKey(kid: string): void {
    this.published = this.published.filter((jwk) => jwk.kid !== kid);
  }

  /** An access token, by default for the audience `sessiond`, good for 10 minutes. */
  async sign({ kid, claims = {}, header = {} }: TestToken = {}): Promise<string> {
    const key = kid === undefined ? [...this.#keys.values()].at(-1) : this.#keys.get(kid);
    if (key === undefined) throw new Error("the test issuer has no such key");
    const nowS = Math.floor(this.#now() / 1000);
    const usual = { iss: this.url, aud: "sessiond", sub: "billing", iat: nowS, exp: nowS + 600 };
    return new SignJWT({ ...usual, ...claims })
      .setProtectedHeader({ alg: key.alg, kid: key.jwk.kid, ...header } as JWTHeaderParameters)
      .sign(key.privateKey);
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }

  #document(path: string | undefined): object {
    if (path === "/.well-known/openid-configuration") {
      return { issuer: this.url, jwks_uri: this.jwksUrl };
    }
    return { keys: this.published };
  }
}
