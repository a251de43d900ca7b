import { isLoopback } from "./address.js";

/**
 * Reads the URL of an issuer or of its keys: https, or http to this machine. A network
 * that can change the answer could sign tokens. Throws an Error that says what was expected.
 */
export function parseTrustedUrl(text: string): URL {
  const url = URL.parse(text);
  if (url === null) throw new Error("expected a URL such as https://id.example.com");
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  if (url.protocol !== "https:" && !(url.protocol === "http:" && isLoopback(host))) {
    throw new Error("expected an https:// URL; http:// is for loopback hosts only");
  }
  if (url.username !== "" || url.password !== "") {
    throw new Error("expected a URL without user name and password");
  }
  return url;
}
