import { parseBoolean } from "./choice.js";
import type { Setting } from "./setting.js";

/** What the page itself decides in an authorization request (RFC 6749, 4.1.1; RFC 7636, 4.3). */
const OWN_PARAMETERS: ReadonlySet<string> = new Set([
  ...["response_type", "client_id", "redirect_uri", "scope", "state", "nonce"],
  ...["code_challenge", "code_challenge_method"],
]);
/** RFC 6749, appendix A: visible ASCII without quotes and backslashes. */
const SCOPE = /^[!#-[\]-~]+( [!#-[\]-~]+)*$/;

/** The operators' console, and how operators log in to it. */
export const CONSOLE_SETTINGS = {
  console: {
    group: "Console",
    env: "SESSIOND_CONSOLE",
    flag: "console",
    help:
      "serves the operators' console at `/console` on the HTTP port: `true` or `false` (default: " +
      "`true` with `--dev` where somebody can log in, otherwise `false`)",
    details:
      "The page needs no access token to load. All that it shows it asks for by calls with the " +
      "operator's own access token. [console.md](console.md) says how to set up the login.",
    parse: parseBoolean,
  },
  consoleClientId: {
    group: "Console",
    env: "SESSIOND_CONSOLE_CLIENT_ID",
    flag: "console-client-id",
    placeholder: "ID",
    help:
      "the client id that the first issuer of the auth file gave the console: a public client " +
      "(required with the console, unless the server makes its own access tokens)",
    details:
      "The issuer's URL must be https (or http on a loopback address), and it must be an OpenID " +
      "provider whose discovery document and token endpoint are on the same origin and let the " +
      "console's origin call them (CORS).",
    parse: parseClientId,
  },
  consoleScope: {
    group: "Console",
    env: "SESSIOND_CONSOLE_SCOPE",
    flag: "console-scope",
    placeholder: "SCOPE …",
    default: "openid",
    help: "the scopes that the console asks the issuer for, separated by spaces",
    details:
      "With an issuer that grants permissions as scopes, name them here: `openid sessions:read " +
      "sessions:delete`.",
    parse: parseScope,
  },
  consoleLoginParameters: {
    group: "Console",
    env: "SESSIOND_CONSOLE_LOGIN_PARAMETERS",
    flag: "console-login-parameters",
    placeholder: "NAME=VALUE&…",
    help: "what else the console sends with its authorization request, such as `audience=sessiond`",
    details:
      "Some issuers make an access token for a server only if they are told which: Auth0 wants " +
      "`audience`, others `resource` (RFC 8707). Names and values are encoded as in a URL's query.",
    parse: parseParameters,
  },
} as const satisfies Record<string, Setting>;

function parseClientId(text: string): string {
  if (/^[!-~]{1,256}$/.test(text)) return text;
  throw new Error("expected 1 to 256 visible ASCII characters");
}

function parseScope(text: string): string {
  if (SCOPE.test(text)) return text;
  throw new Error("expected scopes, separated by single spaces");
}

function parseParameters(text: string): Readonly<Record<string, string>> {
  const parameters = [...new URLSearchParams(text)];
  for (const [name, value] of parameters) {
    if (name === "" || value === "") throw new Error("expected NAME=VALUE, separated by &");
    if (OWN_PARAMETERS.has(name)) throw new Error(`expected no ${name}, which the console sets`);
  }
  return Object.fromEntries(parameters);
}
