import { readFileSync } from "node:fs";
import type { TlsOptions } from "@sessiond/client";
import { type Environment, REMOTE_TLS_VARIABLES } from "../../config/environment.js";
import type { FlagReader } from "../command/flag-reader.js";

const FLAGS = {
  ca: ["server-ca", REMOTE_TLS_VARIABLES.ca],
  cert: ["client-cert", REMOTE_TLS_VARIABLES.cert],
  key: ["client-key", REMOTE_TLS_VARIABLES.key],
} as const;

/** The flags that name files of TLS. */
export const REMOTE_TLS_FLAGS = Object.values(FLAGS).map(([flag]) => flag);

/** Their help text. */
export const REMOTE_TLS_HELP = `\
  --server-ca FILE         the PEM file of the authorities of an https server
                           (${REMOTE_TLS_VARIABLES.ca}, default: those of Node)
  --client-cert FILE       the PEM file of the certificate that the server wants
                           (${REMOTE_TLS_VARIABLES.cert})
  --client-key FILE        the PEM file of its key (${REMOTE_TLS_VARIABLES.key})
`;

/** Reads the files. Undefined if none is named. Adds the faults to `flags`. */
export function readRemoteTls(
  flags: FlagReader,
  env: Environment,
  server: URL,
): TlsOptions | undefined {
  const tls: TlsOptions = {};
  for (const name of ["ca", "cert", "key"] as const) {
    const [flag, variable] = FLAGS[name];
    const pem = flags.read(flag, undefined, (path = env[variable] || undefined) =>
      path === undefined ? undefined : readFileSync(path),
    );
    if (pem !== undefined) tls[name] = pem;
  }
  if (Object.keys(tls).length === 0) return undefined;
  if (server.protocol !== "https:") {
    flags.faults.push("--server (SESSIOND_SERVER): expected https:// with files of TLS");
  }
  return tls;
}
