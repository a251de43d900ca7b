import { ConfigError } from "../../config/config-error.js";
import type { Environment } from "../../config/environment.js";
import type { FlagReader } from "../command/flag-reader.js";

const DEFAULT_SERVER = "http://127.0.0.1:50051";

/** The help text of `--server`. */
export const SERVER_HELP = `\
  --server URL             where gRPC is served (SESSIOND_SERVER,
                           default ${DEFAULT_SERVER})
`;

/** Reads `--server`. Throws a ConfigError with every fault of `flags` if it is no URL. */
export function readServerUrl({ values, faults }: FlagReader, env: Environment): URL {
  const text = values.get("server") ?? (env["SESSIOND_SERVER"] || DEFAULT_SERVER);
  const url = URL.parse(text.includes("://") ? text : `http://${text}`);
  if (url === null || !["http:", "https:"].includes(url.protocol) || url.username !== "") {
    faults.push(`--server (SESSIOND_SERVER): expected a URL such as ${DEFAULT_SERVER}`);
    throw new ConfigError(faults);
  }
  return url;
}
