import type { Session } from "@sessiond/client";
import { putCookie, type ResponseHead } from "../requests/response-head.js";
import { isInBackground, type WebRequest } from "../requests/web-request.js";
import type { RecentTokens } from "./recent-tokens.js";
import type { SessionCookie } from "./session-cookie.js";

/** What the tokens of all requests share. */
export interface TokenSetup {
  readonly cookie: SessionCookie;
  /**
   * Tokens that were replaced, or are being replaced. Requests that the browser had sent with the
   * old token may be answered after the response that has the new one, so they clear no cookie.
   */
  readonly replaced: RecentTokens;
  /** Tokens whose session a login or logout is ending. A rotation at the same time sets no cookie. */
  readonly ended: RecentTokens;
}

/**
 * The session token that the client of a request holds, and what the response does to it. A browser
 * holds it in the cookie. A client that sends a bearer token keeps it itself, and gets no cookie.
 */
export class HeldToken {
  readonly #setup: TokenSetup;
  readonly #request: WebRequest;
  readonly #head: ResponseHead;
  readonly isBearer: boolean;
  /** Undefined until somebody asks for the token: most requests for a file never do. */
  #held: { readonly value: string | undefined } | undefined;

  constructor(setup: TokenSetup, request: WebRequest, head: ResponseHead) {
    this.#setup = setup;
    this.#request = request;
    this.#head = head;
    const bearer = bearerToken(request);
    this.isBearer = bearer !== undefined;
    if (bearer !== undefined) this.#held = { value: bearer };
  }

  get value(): string | undefined {
    this.#held ??= { value: this.#setup.cookie.read(this.#request) };
    return this.#held.value;
  }

  /**
   * Call before the token is replaced: from now on, no answer about the old one clears the cookie,
   * which may be the new one. Throws a TypeError if the response has begun.
   */
  willBeReplaced(): void {
    if (this.#head.isSent)
      throw new TypeError("the response has begun, so it cannot set the cookie");
    if (this.value !== undefined) this.#setup.replaced.add(this.value);
  }

  /** Runs what ends the token's session. The session goes on if that fails. */
  async ending<T>(end: () => Promise<T>): Promise<T> {
    this.willBeReplaced();
    const token = this.value;
    if (token === undefined) return end();
    this.#setup.ended.add(token);
    try {
      return await end();
    } catch (error) {
      this.#setup.ended.delete(token);
      throw error;
    }
  }

  /** Whether another request of the client has ended the session, and has the last word. */
  isEndedElsewhere(): boolean {
    return this.value !== undefined && this.#setup.ended.has(this.value);
  }

  /** Gives the client a new token. */
  replace(token: string, session: Session<object>): void {
    this.#held = { value: token };
    if (!this.isBearer) this.#setCookie(this.#setup.cookie.line(this.#request, token, session));
  }

  /** Has the browser forget its token. */
  forget(): void {
    this.#held = { value: undefined };
    if (!this.isBearer) this.#setCookie(this.#setup.cookie.clearingLine(this.#request));
  }

  /**
   * Has the browser forget this token, which is not valid, unless it may hold a new one by the time
   * the answer arrives. Another process may be logging the user in, which we cannot know; but only
   * what the browser does in the background happens beside a login.
   */
  forgetInvalid(token: string): void {
    if (token !== this.value || this.#head.isSent) return;
    if (isInBackground(this.#request) || this.#setup.replaced.has(token)) return;
    this.forget();
  }

  /** No cache keeps what depends on a session, also not for the back button after a logout. */
  keepPrivate(): void {
    if (!this.#head.isSent && this.#head.get("Cache-Control") === undefined) {
      this.#head.set("Cache-Control", "no-store");
    }
  }

  #setCookie(line: string): void {
    this.keepPrivate();
    putCookie(this.#head, this.#setup.cookie.nameFor(this.#request), line);
  }
}

/** It goes before a cookie, because a browser adds it to no request by itself. */
function bearerToken({ headers }: WebRequest): string | undefined {
  return /^Bearer +(\S+)$/i.exec(headers.get("authorization") ?? "")?.[1];
}
