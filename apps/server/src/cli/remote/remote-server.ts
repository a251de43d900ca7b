import { existsSync } from "node:fs";
import type { TlsOptions } from "@sessiond/client";
import { developmentSigningKeyPath } from "../../auth/development-keys.js";
import { dataDirectory } from "../../config/config.js";
import { ConfigError } from "../../config/config-error.js";
import { type Environment, readVariable } from "../../config/environment.js";
import { isLoopback } from "../../network/address.js";
import type { FlagReader } from "../command/flag-reader.js";
import { REMOTE_TLS_FLAGS, REMOTE_TLS_HELP, readRemoteTls } from "./remote-tls.js";

/** The flags that name the server and the caller. */
export const REMOTE_FLAGS = ["server", "token", "data-dir", ...REMOTE_TLS_FLAGS];

/** A running server, and the credentials for it. */
export interface RemoteServer {
  readonly url: URL;
  /** Undefined if calls use development tokens. */
  readonly token: string | undefined;
  /** Undefined for the defaults of Node. */
  readonly tls: TlsOptions | undefined;
  /** The directory of the development key. */
  readonly dataDir: string;
}

const DEFAULT_SERVER = "http://127.0.0.1:50051";

/** The help text of `REMOTE_FLAGS`. */
export const REMOTE_HELP = `\
  --server URL             where gRPC is served (SESSIOND_SERVER,
                           default ${DEFAULT_SERVER})
  --token TOKEN            an access token; others can see flags, so prefer the
                           variable or a file (SESSIOND_TOKEN,
                           SESSIOND_TOKEN_FILE, default with a server on
                           loopback: a development token)
${REMOTE_TLS_HELP}  --data-dir DIRECTORY     a development server's (SESSIOND_DATA_DIR, default
                           .sessiond)
`;

/** Reads `REMOTE_FLAGS` and the environment. Throws a ConfigError with every fault of `flags`. */
export function remoteServer(flags: FlagReader, env: Environment): RemoteServer {
  const { values, faults } = flags;
  const text = values.get("server") ?? (env["SESSIOND_SERVER"] || DEFAULT_SERVER);
  const url = URL.parse(text.includes("://") ? text : `http://${text}`);
  const token = flags.read(
    "token",
    undefined,
    (flag) => flag ?? readVariable(env, "SESSIOND_TOKEN")?.text,
  );
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
