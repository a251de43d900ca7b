import { existsSync } from "node:fs";
import type { TlsOptions } from "@sessiond/client";
import { developmentSigningKeyPath } from "../../auth/development-keys.js";
import { dataDirectory } from "../../config/config.js";
import type { Environment } from "../../config/environment.js";
import { isLoopback } from "../../network/address.js";
import { readServerUrl, SERVER_HELP } from "../access/server-url.js";
import {
  readKeptLogin,
  readTokenSource,
  TOKEN_SOURCE_FLAGS,
  TOKEN_SOURCE_HELP,
  type TokenSource,
} from "../access/token-source.js";
import type { FlagReader } from "../command/flag-reader.js";
import { REMOTE_TLS_FLAGS, REMOTE_TLS_HELP, readRemoteTls } from "./remote-tls.js";

/** The flags that name the server and the caller. */
export const REMOTE_FLAGS = ["server", ...TOKEN_SOURCE_FLAGS, "data-dir", ...REMOTE_TLS_FLAGS];

/** A running server, and the credentials for it. */
export interface RemoteServer {
  readonly url: URL;
  /** Undefined if calls use development tokens. */
  readonly token: TokenSource | undefined;
  /** Undefined for the defaults of Node. */
  readonly tls: TlsOptions | undefined;
  /** The directory of the development key. */
  readonly dataDir: string;
}

/** The help text of `REMOTE_FLAGS`. */
export const REMOTE_HELP = `\
${SERVER_HELP}${TOKEN_SOURCE_HELP}${REMOTE_TLS_HELP}  --data-dir DIRECTORY     the data directory of a development server on this
                           machine; such a server needs no token from you
                           (SESSIOND_DATA_DIR, default .sessiond)
`;

/** Reads `REMOTE_FLAGS` and the environment. Throws a ConfigError with every fault of `flags`. */
export function remoteServer(flags: FlagReader, env: Environment): RemoteServer {
  const given = readTokenSource(flags, env);
  const dataDir = flags.read("data-dir", "", (path) => dataDirectory(path, env));
  const url = readServerUrl(flags, env);
  const token = given ?? readKeptLogin(flags, env, url);
  const fault = token === undefined ? developmentTokenFault(url, dataDir) : undefined;
  if (fault !== undefined) flags.faults.push(fault);
  const tls = readRemoteTls(flags, env, url);
  flags.throwIfFaulty();
  return { url, token, tls, dataDir };
}

/** Why no development token can be made for the server. No server would know a key made now. */
function developmentTokenFault(url: URL, dataDir: string): string | undefined {
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  if (!isLoopback(host)) {
    return (
      "--token (SESSIOND_TOKEN): required, unless the server is on a loopback address; or log in " +
      "first (sessiond login)"
    );
  }
  if (existsSync(developmentSigningKeyPath(dataDir))) return undefined;
  return (
    `no development server's key in ${dataDir}: run this where the server was started, or say ` +
    "where its data is (--data-dir, SESSIOND_DATA_DIR); a server with an auth file takes a token " +
    "(--token, SESSIOND_TOKEN, sessiond login)"
  );
}
