import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { freePort } from "@sessiond/core/testing";
import { exportJWK, generateKeyPair, type JWK } from "jose";

const CHILD = fileURLToPath(new URL("../../dist/testing/oidc-provider.child.js", import.meta.url));
const CLIENT = { id: "billing", secret: "a-secret-of-the-test-alone" };

/** What an `OidcProcess` serves. */
export interface ProviderState {
  /** Private keys. The first one signs. */
  readonly keys: readonly JWK[];
  /** What it answers in place of its keys. */
  readonly fault?: "empty" | "garbage" | "damaged" | "failing" | "hanging" | "slow" | "endless";
}

/** An OpenID provider (`oidc-provider`) in a process of its own, which can fail and change keys. */
export class OidcProcess implements AsyncDisposable {
  readonly #port: number;
  #child: ChildProcess | undefined;
  #state: ProviderState = { keys: [] };

  private constructor(port: number) {
    this.#port = port;
  }

  /** Starts a provider with one key, `k1`. */
  static async start(): Promise<OidcProcess> {
    const provider = new OidcProcess(await freePort());
    provider.#state = { keys: [await signingKey("k1")] };
    await provider.restart();
    return provider;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Signs with a new key. Publishes the old ones, too, unless they are withdrawn. */
  async rotate(kid: string, { withdrawOld = false } = {}): Promise<void> {
    const old = withdrawOld ? [] : this.#state.keys;
    await this.#serve({ keys: [await signingKey(kid), ...old] });
  }

  /** Has this fault from now on, or none. */
  async fail(fault: ProviderState["fault"]): Promise<void> {
    const { keys } = this.#state;
    await this.#serve(fault === undefined ? { keys } : { keys, fault });
  }

  /** How often its keys were asked for, and how many bytes its fault `endless` has written. */
  async served(): Promise<{ readonly loads: number; readonly bytes: number }> {
    return this.#serve(this.#state);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }

  /** Starts again after `kill`, with the same keys. */
  async restart(): Promise<void> {
    this.#child = fork(CHILD, [`${this.#port}`, CLIENT.id, CLIENT.secret], { silent: true });
    await once(this.#child, "message");
    await this.#serve(this.#state);
  }

  /** Logs the client `billing` in (RFC 6749, 4.4). Returns its access token, good for a week. */
  async login(): Promise<string> {
    const basic = Buffer.from(`${CLIENT.id}:${CLIENT.secret}`).toString("base64");
    const response = await fetch(`${this.url}/token`, {
      method: "POST",
      headers: { authorization: `Basic ${basic}` },
      body: new URLSearchParams({ grant_type: "client_credentials", scope: "sessions:create" }),
    });
    const { access_token: token } = (await response.json()) as { readonly access_token?: string };
    if (token === undefined) throw new Error(`no access token: status ${response.status}`);
    return token;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }

  async #serve(state: ProviderState): Promise<{ loads: number; bytes: number }> {
    this.#state = state;
    const child = this.#child as ChildProcess;
    const answered = once(child, "message");
    child.send(state);
    const [served] = await answered;
    return served;
  }
}

async function signingKey(kid: string): Promise<JWK> {
  const { privateKey } = await generateKeyPair("RS256", { extractable: true });
  return { ...(await exportJWK(privateKey)), use: "sig", alg: "RS256", kid };
}
