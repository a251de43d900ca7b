import type { Environment } from "../../config/environment.js";
import { parseTrustedUrl } from "../../network/trusted-url.js";
import type { FlagReader } from "../command/flag-reader.js";

/** Who asks an issuer for an access token, and for what. */
export interface IssuerRequest {
  /** A URL, as the issuer's tokens have it in `iss`. */
  readonly issuer: string;
  readonly clientId: string;
  /** Undefined for what the issuer gives by default. */
  readonly scope: string | undefined;
  readonly audience: string | undefined;
}

const VARIABLES = {
  issuer: "SESSIOND_TOKEN_ISSUER",
  "client-id": "SESSIOND_CLIENT_ID",
  scope: "SESSIOND_TOKEN_SCOPE",
  audience: "SESSIOND_TOKEN_AUDIENCE",
} as const;

/** The flags of `readIssuerRequest`. */
export const ISSUER_FLAGS: readonly string[] = Object.keys(VARIABLES);

/** Their help text. */
export const ISSUER_HELP = `\
  --issuer URL             who gives the access token (${VARIABLES.issuer})
  --client-id ID           the client's name at the issuer (${VARIABLES["client-id"]})
  --scope SCOPE            the permissions to ask for, separated by spaces
                           (${VARIABLES.scope}, default: the issuer's)
  --audience AUDIENCE      whom the token is for, if the issuer needs to be told
                           (${VARIABLES.audience})
`;

/** Reads `ISSUER_FLAGS` and their variables. Adds the faults to `flags`. */
export function readIssuerRequest(flags: FlagReader, env: Environment): IssuerRequest {
  const read = (flag: keyof typeof VARIABLES) =>
    flags.values.get(flag) || env[VARIABLES[flag]] || undefined;
  const required = (flag: keyof typeof VARIABLES, check: (text: string) => unknown) =>
    flags.read(flag, "", () => {
      const text = read(flag);
      if (text === undefined) throw new Error(`required (${VARIABLES[flag]})`);
      check(text);
      return text;
    });
  return {
    // Plain http is for loopback alone: the token would be anybody's on the way.
    issuer: required("issuer", parseTrustedUrl),
    clientId: required("client-id", () => {}),
    scope: read("scope"),
    audience: read("audience"),
  };
}
