import { existsSync } from "node:fs";
import { developmentSigningKeyPath } from "../../auth/development-keys.js";
import { dataDirectory } from "../../config/config.js";
import { ConfigError } from "../../config/config-error.js";
import type { Environment } from "../../config/environment.js";
import { isLoopback } from "../../network/address.js";

/** The flags that say which server to call, and as whom. */
export const REMOTE_FLAGS = ["server", "token", "data-dir"];

/** A server that runs already, and how its calls are permitted. */
export interface RemoteServer {
  readonly url: URL;
  /** Undefined where development tokens are made. */
  readonly token: string | undefined;
  readonly dataDir: string;
}

const DEFAULT_SERVER = "http://127.0.0.1:50051";

/** What `--help` says of `REMOTE_FLAGS`. */
export const REMOTE_HELP = `\
  --server URL             where gRPC is served (SESSIOND_SERVER,
                           default ${DEFAULT_SERVER})
  --token TOKEN            an access token; others can see flags, so prefer the
                           variable (SESSIOND_TOKEN, default with a server on
                           loopback: a development token)
  --data-dir DIRECTORY     a development server's (SESSIOND_DATA_DIR, default
                           .sessiond)
`;

/** Reads what `REMOTE_FLAGS` and the environment say. Throws a ConfigError with every fault. */
export function remoteServer(
  values: ReadonlyMap<string, string>,
  env: Environment,
  faultsSoFar: readonly string[],
): RemoteServer {
  const faults = [...faultsSoFar];
  const text = values.get("server") ?? (env["SESSIOND_SERVER"] || DEFAULT_SERVER);
  const url = URL.parse(text.includes("://") ? text : `http://${text}`);
  const isUsable =
    url !== null && ["http:", "https:"].includes(url.protocol) && url.username === "";
  if (!isUsable)
    faults.push(`--server (SESSIOND_SERVER): expected a URL such as ${DEFAULT_SERVER}`);
  const token = values.get("token") ?? (env["SESSIOND_TOKEN"] || undefined);
  const dataDir = dataDirectory(values.get("data-dir"), env);
  if (isUsable && token === undefined) {
    const fault = developmentTokenFault(url, dataDir);
    if (fault !== undefined) faults.push(fault);
  }
  if (faults.length > 0 || !isUsable) throw new ConfigError(faults);
  return { url, token, dataDir };
}

/** Why no development token can be made for the server. A key that is made now would be no server's. */
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
