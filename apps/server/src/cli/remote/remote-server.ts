import { existsSync } from "node:fs";
import type { TlsOptions } from "@sessiond/client";
import { developmentSigningKeyPath } from "../../auth/development-keys.js";
import { dataDirectory } from "../../config/config.js";
import { ConfigError } from "../../config/config-error.js";
import {
  type Environment,
  FILE_SUFFIX,
  readValue,
  readVariable,
} from "../../config/environment.js";
import { isLoopback } from "../../network/address.js";
import type { FlagReader } from "../command/flag-reader.js";
import { REMOTE_TLS_FLAGS, REMOTE_TLS_HELP, readRemoteTls } from "./remote-tls.js";

/** The flags that name the server and the caller. */
export const REMOTE_FLAGS = ["server", "token", "token-file", "data-dir", ...REMOTE_TLS_FLAGS];

/** A running server, and the credentials for it. */
export interface RemoteServer {
  readonly url: URL;
  /** Undefined if calls use development tokens. */
  readonly token: GivenToken | undefined;
  /** Undefined for the defaults of Node. */
  readonly tls: TlsOptions | undefined;
  /** The directory of the development key. */
  readonly dataDir: string;
}

/** An access token, or a file in which somebody else may renew it. */
export type GivenToken = string | { readonly file: string };

const DEFAULT_SERVER = "http://127.0.0.1:50051";

/** The help text of `REMOTE_FLAGS`. */
export const REMOTE_HELP = `\
  --server URL             where gRPC is served (SESSIOND_SERVER,
                           default ${DEFAULT_SERVER})
  --token TOKEN            an access token; others can see flags, so prefer the
                           variable or a file (SESSIOND_TOKEN, default with a
                           server on loopback: a development token)
  --token-file FILE        a file with the access token, which may be renewed
                           meanwhile (SESSIOND_TOKEN_FILE)
${REMOTE_TLS_HELP}  --data-dir DIRECTORY     the data directory of a development server on this
                           machine; such a server needs no token from you
                           (SESSIOND_DATA_DIR, default .sessiond)
`;

/** Reads `REMOTE_FLAGS` and the environment. Throws a ConfigError with every fault of `flags`. */
export function remoteServer(flags: FlagReader, env: Environment): RemoteServer {
  const { values, faults } = flags;
  const text = values.get("server") ?? (env["SESSIOND_SERVER"] || DEFAULT_SERVER);
  const url = URL.parse(text.includes("://") ? text : `http://${text}`);
  const token = readAccessToken(flags, env);
  const dataDir = flags.read("data-dir", "", (path) => dataDirectory(path, env));
  if (url === null || !["http:", "https:"].includes(url.protocol) || url.username !== "") {
    faults.push(`--server (SESSIOND_SERVER): expected a URL such as ${DEFAULT_SERVER}`);
    throw new ConfigError(faults);
  }
  const fault = token === undefined ? developmentTokenFault(url, dataDir) : undefined;
  if (fault !== undefined) faults.push(fault);
  const tls = readRemoteTls(flags, env, url);
  flags.throwIfFaulty();
  return { url, token, tls, dataDir };
}

function readAccessToken(flags: FlagReader, env: Environment): GivenToken | undefined {
  const token = flags.values.get("token");
  return flags.read("token-file", undefined, (path): GivenToken | undefined => {
    if (path !== undefined && token !== undefined)
      flags.faults.push("--token-file: not with --token");
    if (token !== undefined) return token;
    if (path !== undefined) return tokenOfFile(path);
    const variable = readVariable(env, "SESSIOND_TOKEN");
    const file = variable?.name.endsWith(FILE_SUFFIX) ? env[variable.name] : undefined;
    return file === undefined ? variable?.text : tokenOfFile(file);
  });
}

/** Throws if there is no token in the file now. */
function tokenOfFile(file: string): GivenToken {
  readValue(file);
  return { file };
}

/** Why no development token can be made for the server. No server would know a key made now. */
function developmentTokenFault(url: URL, dataDir: string): string | undefined {
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  if (!isLoopback(host)) {
    return "--token (SESSIOND_TOKEN): required, unless the server is on a loopback address";
  }
  if (existsSync(developmentSigningKeyPath(dataDir))) return undefined;
  return (
    `no development server's key in ${dataDir}: run this where the server was started, or say ` +
    "where its data is (--data-dir, SESSIOND_DATA_DIR); a server with an auth file takes a token " +
    "(--token, SESSIOND_TOKEN)"
  );
}
