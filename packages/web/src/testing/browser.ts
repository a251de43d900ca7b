import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { parseSetCookie } from "cookie";

/** An answer with the fields that tests look at. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly setCookie: readonly string[];
  readonly body: string;
}

/** What a request has besides its path. */
export interface Sent {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly form?: Readonly<Record<string, string>>;
}

/** A request as it is, without the fields that fetch adds and those it forbids. */
export async function send(
  url: string,
  { method, headers = {}, form }: Sent = {},
): Promise<Answer> {
  const body = form && new URLSearchParams(form).toString();
  const type = body === undefined ? {} : { "content-type": "application/x-www-form-urlencoded" };
  const request = httpRequest(url, {
    method: method ?? (body === undefined ? "GET" : "POST"),
    headers: { ...type, ...headers },
    agent: false,
  });
  request.end(body);
  const [response] = (await once(request, "response")) as [IncomingMessage];
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    setCookie: response.headers["set-cookie"] ?? [],
    body: await text(response),
  };
}

/** Keeps cookies as a browser does, for one host. */
export class Browser {
  readonly #origin: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly cookies = new Map<string, string>();

  constructor(origin: string, headers: Readonly<Record<string, string>> = {}) {
    this.#origin = origin;
    this.#headers = headers;
  }

  async send(path: string, sent: Sent = {}): Promise<Answer> {
    const answer = await this.sendOnly(path, sent);
    this.receive(answer);
    return answer;
  }

  /** Sends a request with the cookies of now. Its answer has not arrived before `receive`. */
  sendOnly(path: string, sent: Sent = {}): Promise<Answer> {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const headers = { ...this.#headers, ...(cookie !== "" && { cookie }), ...sent.headers };
    return send(this.#origin + path, { ...sent, headers });
  }

  receive({ setCookie }: Answer): void {
    for (const line of setCookie) {
      const { name, value = "", expires, maxAge = untilMs(expires) } = parseSetCookie(line);
      if (maxAge <= 0) this.cookies.delete(name);
      else this.cookies.set(name, value);
    }
  }
}

/** A cookie without either ends with the browser. */
function untilMs(expires: Date | undefined): number {
  return expires === undefined ? Infinity : expires.getTime() - Date.now();
}
