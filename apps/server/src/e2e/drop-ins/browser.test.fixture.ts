import type { AddressInfo, Server } from "node:net";
import { expect, onTestFinished } from "vitest";

/** A browser with one jar of cookies, and nothing else of a browser. */
export class Browser {
  readonly #origin: string;
  /** By name, as the server set them. */
  readonly cookies = new Map<string, string>();

  constructor(origin: string) {
    this.#origin = origin;
  }

  get(path: string): Promise<Response> {
    return this.#send(path, {});
  }

  /** Posts JSON, as a page of `origin` does. */
  post(path: string, origin: string, body: object): Promise<Response> {
    const headers = { origin, "content-type": "application/json" };
    return this.#send(path, { method: "POST", headers, body: JSON.stringify(body) });
  }

  /** Submits a form. */
  submit(path: string, fields: Readonly<Record<string, string>>): Promise<Response> {
    return this.#send(path, { method: "POST", body: new URLSearchParams(fields) });
  }

  async #send(path: string, init: RequestInit): Promise<Response> {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const headers = { ...init.headers, cookie };
    const response = await fetch(this.#origin + path, { ...init, headers, redirect: "manual" });
    for (const line of response.headers.getSetCookie()) {
      const [, name = "", value = ""] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
      this.cookies.set(name, value);
    }
    return response;
  }

  async text(path: string): Promise<string> {
    return (await this.get(path)).text();
  }

  /** Another browser with the same cookies. */
  copy(): Browser {
    const copy = new Browser(this.#origin);
    for (const [name, value] of this.cookies) copy.cookies.set(name, value);
    return copy;
  }
}

/** Opens a browser on a server that listens on a free port until the end of the test. */
export async function browserOn(server: Server): Promise<Browser> {
  if (!server.listening) {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void server.close());
  }
  return new Browser(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
}

/** `/` counts the visits of a browser: those of this one, and not those of another. */
export async function expectOwnCount(browser: Browser): Promise<void> {
  for (const count of ["1", "2", "3"]) expect(await browser.text("/")).toBe(count);
  const other = browser.copy();
  other.cookies.clear();
  expect(await other.text("/")).toBe("1");
}
