import { didYouMean } from "./closest-name.js";

const PREFIX = "SESSIOND_";
/** Variables of the other commands: not settings of `serve`, and not typos. */
const OTHER_VARIABLES = ["SERVER", "TOKEN", "FENCING_TOKEN"];

/** The environment, as `process.env` has it. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The environment of this process. No other file reads it. */
export function readEnvironment(): Environment {
  return process.env;
}

/** A fault for every SESSIOND_ variable that is not in `variables`, the names of the settings. */
export function unknownVariables(
  env: Environment,
  variables: readonly string[],
): readonly string[] {
  const known = variables.map((name) => name.slice(PREFIX.length));
  return Object.entries(env)
    .filter(([name, value]) => name.startsWith(PREFIX) && !isServiceLink(name, value ?? ""))
    .map(([name]) => name.slice(PREFIX.length))
    .filter((name) => !known.includes(name) && !OTHER_VARIABLES.includes(name))
    .map((name) => `${PREFIX}${name}: unknown variable${didYouMean(name, known, PREFIX)}`);
}

/**
 * Kubernetes and Docker give containers variables such as SESSIOND_SERVICE_HOST
 * and SESSIOND_PORT=tcp://10.0.0.7:8080, when a service is called sessiond.
 */
function isServiceLink(name: string, value: string): boolean {
  if (/_SERVICE_(HOST|PORT(_\w+)?)$/.test(name)) return true;
  if (/_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/.test(name)) return true;
  return name.endsWith("_PORT") && /^(tcp|udp|sctp):\/\//.test(value);
}
