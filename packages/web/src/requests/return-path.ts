/** No origin has this name, so a URL that still has it after resolution named no other. */
const NOWHERE = "http://nowhere.invalid";

/**
 * A path of this application to go to after a login, such as the `return_to` that the redirect to
 * the login page carries. Anything that would lead elsewhere becomes `/`: otherwise a link to the
 * login page could send users to a page of an attacker (an open redirect).
 *
 * https://cheatsheetseries.owasp.org/cheatsheets/Unvalidated_Redirects_and_Forwards_Cheat_Sheet.html
 */
export function returnPath(value: unknown): string {
  if (typeof value !== "string" || !value.startsWith("/")) return "/";
  const url = URL.parse(value, NOWHERE);
  if (url?.origin !== NOWHERE) return "/";
  const path = url.pathname + url.search + url.hash;
  // `/a/..//elsewhere.example` resolves to a path that a browser reads as a host.
  return path.startsWith("//") ? "/" : path;
}
