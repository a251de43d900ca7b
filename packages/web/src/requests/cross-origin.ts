import { hostOf, isSafe, type WebRequest } from "./web-request.js";

/**
 * Whether a page of another origin made the browser send this request, which the user did not mean:
 * cross-site request forgery (CSRF). `trusted` are the origins whose pages may.
 *
 * The rules are those of Go 1.25's `http.CrossOriginProtection`: safe methods pass; then
 * `Sec-Fetch-Site` decides, which every browser sends since 2023 and no page can forge; then
 * `Origin` must name the host that was asked. A request with neither comes from no browser, and so
 * carries nobody's cookie against their will.
 *
 * https://words.filippo.io/csrf/
 * https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
 */
export function isForged(request: WebRequest, trusted: ReadonlySet<string>): boolean {
  if (isSafe(request)) return false;
  const site = request.headers.get("sec-fetch-site");
  const origin = request.headers.get("origin");
  if (site === "same-origin" || site === "none") return false;
  if (site === null && (origin === null || isHostOf(origin, request))) return false;
  return origin === null || !trusted.has(origin);
}

/** The scheme is not compared: behind a proxy that terminates TLS, this process does not know it. */
function isHostOf(origin: string, request: WebRequest): boolean {
  const host = URL.parse(origin)?.host;
  return host !== undefined && host !== "" && host === hostOf(request)?.toLowerCase();
}
