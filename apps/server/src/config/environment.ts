import { readFileSync } from "node:fs";
import { didYouMean } from "./closest-name.js";
import { ConfigError } from "./config-error.js";

const PREFIX = "SESSIOND_";
/** Variables of the other commands: not settings of `serve`, and not typos. */
const OTHER_VARIABLES = [
  ...["SERVER", "TOKEN", "TOKEN_FILE", "FENCING_TOKEN"],
  ...["SERVER_CA", "CLIENT_CERT", "CLIENT_KEY"],
  ...["CLIENT_ID", "CLIENT_SECRET", "CLIENT_SECRET_FILE"],
  ...["TOKEN_ISSUER", "TOKEN_SCOPE", "TOKEN_AUDIENCE"],
];
/** Of the commands that call a server: their files of TLS. */
export const REMOTE_TLS_VARIABLES = {
  ca: `${PREFIX}SERVER_CA`,
  cert: `${PREFIX}CLIENT_CERT`,
  key: `${PREFIX}CLIENT_KEY`,
} as const;
/** `NAME_FILE` names a file with the value of `NAME`, as Docker and Kubernetes hand out secrets. */
export const FILE_SUFFIX = "_FILE";

/** The environment, as `process.env` has it. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The environment of this process. No other file reads it. */
export function readEnvironment(): Environment {
  return process.env;
}

/** The value of a variable, and its name: `NAME`, or `NAME_FILE` if the value is from a file. */
export interface Variable {
  readonly name: string;
  readonly text: string;
}

/**
 * Reads a variable, or the file that `NAME_FILE` names, without the newlines at its end.
 * An empty variable counts as unset. Undefined if neither is set. Throws a ConfigError if
 * both are, or if the file cannot be read or is empty.
 */
export function readVariable(env: Environment, name: string): Variable | undefined {
  const file = name + FILE_SUFFIX;
  const [text, path] = [env[name], env[file]];
  if (!path) return text ? { name, text } : undefined;
  if (text) throw new ConfigError([`${file}: ${name} is set, too; expected only one of them`]);
  try {
    return { name: file, text: readValue(path) };
  } catch (error) {
    throw new ConfigError([`${file}: ${error instanceof Error ? error.message : error}`]);
  }
}

/** The content of a file without the newlines at its end. Throws if the file is empty or cannot be read. */
export function readValue(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, "utf8").replace(/[\r\n]+$/, "");
  } catch (error) {
    throw new Error(`cannot read ${path}: ${error instanceof Error ? error.message : error}`);
  }
  // Not the same as unset: a lost secret must not be taken for one that nobody wanted.
  if (text === "") throw new Error(`expected a value in ${path}, which is empty`);
  return text;
}

/**
 * A fault for every SESSIOND_ variable that is neither in `variables`, the names of the
 * settings, nor the `_FILE` of one.
 */
export function unknownVariables(
  env: Environment,
  variables: readonly string[],
): readonly string[] {
  const settings = variables.map((name) => name.slice(PREFIX.length));
  const known = [...settings, ...settings.map((name) => name + FILE_SUFFIX)];
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
