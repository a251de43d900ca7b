import type { ClientCredentialsOptions } from "@sessiond/client";
import {
  type Environment,
  FILE_SUFFIX,
  readValue,
  readVariable,
} from "../../config/environment.js";
import type { FlagReader } from "../command/flag-reader.js";
import { ISSUER_FLAGS, ISSUER_HELP, readIssuerRequest } from "./issuer-flags.js";
import { keptLogin, type LoginPlace } from "./logins.js";

/** An access token, or where it comes from. */
export type TokenSource =
  | string
  /** A file in which somebody else may renew it. */
  | { readonly file: string }
  | { readonly clientCredentials: ClientCredentialsOptions }
  /** What `sessiond login` has kept. */
  | { readonly login: LoginPlace };

const TOKEN_FLAGS = ["token", "token-file"];
const CLIENT_FLAGS = [...ISSUER_FLAGS, "client-secret-file"];
const SECRET = "SESSIOND_CLIENT_SECRET";

/** The flags of `readTokenSource`. */
export const TOKEN_SOURCE_FLAGS = [...TOKEN_FLAGS, ...CLIENT_FLAGS];

/** Their help text. */
export const TOKEN_SOURCE_HELP = `\
  --token TOKEN            an access token; others can see flags, so prefer the
                           variable or a file (SESSIOND_TOKEN, default: that of
                           sessiond login; else, with a server on loopback, a
                           development token)
  --token-file FILE        a file with the access token, which may be renewed
                           meanwhile (SESSIOND_TOKEN_FILE)
  --client-secret-file FILE
                           a file with the secret of a client that gets its
                           access token from the issuer (${SECRET}
                           has the secret, or ${SECRET}_FILE
                           names the file)
${ISSUER_HELP}`;

/**
 * Reads `TOKEN_SOURCE_FLAGS` and their variables. Flags come before variables. Undefined if none says
 * anything. Adds the faults to `flags`.
 */
export function readTokenSource(flags: FlagReader, env: Environment): TokenSource | undefined {
  const { values, faults } = flags;
  const [tokenFlag, other] = TOKEN_FLAGS.filter((flag) => values.has(flag));
  const clientFlag = CLIENT_FLAGS.find((flag) => values.has(flag));
  if (tokenFlag === undefined && clientFlag === undefined) return readVariables(flags, env);
  if (tokenFlag === undefined) return readClientCredentials(flags, env);
  if (other !== undefined) faults.push(`--${other}: not with --${tokenFlag}`);
  if (clientFlag !== undefined) faults.push(`--${clientFlag}: not with --${tokenFlag}`);
  return values.get("token") ?? flags.read("token-file", undefined, (path = "") => fileWith(path));
}

/** The login for a server, if there is one. A damaged file is a fault. */
export function readKeptLogin(
  { faults }: FlagReader,
  env: Environment,
  server: URL,
): TokenSource | undefined {
  try {
    const login = keptLogin(env, server);
    return login && { login };
  } catch (error) {
    faults.push(error instanceof Error ? error.message : String(error));
    return undefined;
  }
}

/** `sessiond login` has the same variables. Its client has no secret, and gives no token here. */
function readVariables(flags: FlagReader, env: Environment): TokenSource | undefined {
  return flags.read("token-file", undefined, () => {
    const token = readVariable(env, "SESSIOND_TOKEN");
    const secret = [SECRET, SECRET + FILE_SUFFIX].find((name) => env[name]);
    if (secret !== undefined && token !== undefined) {
      flags.faults.push(`${secret}: ${token.name} is set, too; expected only one of them`);
    }
    if (token === undefined) return secret && readClientCredentials(flags, env);
    const file = token.name.endsWith(FILE_SUFFIX) ? env[token.name] : undefined;
    return file === undefined ? token.text : fileWith(file);
  });
}

function readClientCredentials(flags: FlagReader, env: Environment): TokenSource {
  const clientSecret = flags.read("client-secret-file", "", (path) => {
    const secret = path === undefined ? readVariable(env, SECRET)?.text : readValue(path);
    if (secret === undefined) {
      throw new Error(`required for a client (${SECRET}); without a secret: sessiond login`);
    }
    return secret;
  });
  return { clientCredentials: { ...readIssuerRequest(flags, env), clientSecret } };
}

/** Throws if there is no token in the file now. */
function fileWith(file: string): TokenSource {
  readValue(file);
  return { file };
}
