import type { WebError } from "./web-error.js";

/** A server that is down fails every request, and one line tells of it. */
const OUTAGE_INTERVAL_MS = 60_000;

/** Without any text of a request, which a stranger may have written. */
const WARNINGS = {
  plainLocalhost:
    "The session cookie is not Secure, because the request came over plain http to localhost. " +
    "In production set NODE_ENV=production, and have the proxy pass the Host on.",
  plainHttp:
    "Browsers drop the session cookie, because it is Secure, and the request came over plain " +
    "http to another host than localhost. Use http://localhost in development, and https " +
    "otherwise. A proxy that terminates TLS should set X-Forwarded-Proto.",
  unknownProxy:
    "Attempts to log in come with X-Forwarded-For from a proxy that is not in trustedProxies. " +
    "All users behind it share its address, and the limit on attempts.",
  crossOrigin:
    "A request was refused with 403 (CROSS_ORIGIN), because a page of another origin sent it. " +
    "If that page is yours, name its origin in trustedOrigins. If it is this application's own, " +
    "have the proxy pass the Host on.",
};

/** Tells an operator what no browser is told: each thing once, and an outage once a minute. */
export class OperatorWarnings {
  readonly #warn: (message: string) => void;
  readonly #now: () => number;
  readonly #told = new Set<keyof typeof WARNINGS>();
  #nextOutageMs = -Infinity;

  constructor(warn: (message: string) => void, now: () => number) {
    this.#warn = warn;
    this.#now = now;
  }

  tell(warning: keyof typeof WARNINGS): void {
    if (this.#told.has(warning)) return;
    this.#told.add(warning);
    this.#warn(WARNINGS[warning]);
  }

  /** Tells why sessiond could not answer, which the answer with status 503 keeps to itself. */
  tellOutage({ reason, cause }: WebError): void {
    const nowMs = this.#now();
    if (nowMs < this.#nextOutageMs) return;
    this.#nextOutageMs = nowMs + OUTAGE_INTERVAL_MS;
    const why = cause instanceof Error ? `: ${cause.message}` : "";
    this.#warn(`sessiond cannot answer, so requests get 503 (${reason})${why}`);
  }
}
