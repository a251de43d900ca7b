import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { parseDuration } from "@sessiond/core";
import { ALGORITHMS, type AuthConfig, type IssuerConfig } from "../auth/issuer.js";
import { parseKeySet } from "../auth/key-set.js";
import type { KeySource } from "../auth/key-source.js";
import { parseTrustedUrl } from "../network/trusted-url.js";
import { closestName, didYouMean } from "./closest-name.js";
import { ConfigError } from "./config-error.js";

const DEFAULT_CLOCK_TOLERANCE_MS = 5_000;
const MAX_CLOCK_TOLERANCE_MS = 5 * 60_000;
const FILE_KEYS = ["issuers", "roles"];
/** What an issuer in the auth file can have. */
export const ISSUER_KEYS: readonly string[] = [
  "issuer",
  "audience",
  "algorithms",
  "jwks_uri",
  "jwks_file",
  "typ",
  "clock_tolerance",
];

/** What `parseAuthConfig` needs besides the text. */
export interface AuthConfigOptions {
  /** Where a relative `jwks_file` is looked for. */
  readonly directory: string;
  /** The permissions that roles can grant; any other is a fault. */
  readonly knownPermissions: readonly string[];
}

/**
 * Reads the auth file at `path`. Throws a ConfigError with every fault in it,
 * each by its place in the file.
 */
export function readAuthFile(path: string, knownPermissions: readonly string[]): AuthConfig {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new ConfigError([`cannot read ${path}: ${messageOf(error)}`]);
  }
  return parseAuthConfig(text, { directory: dirname(path), knownPermissions });
}

/**
 * Reads the JSON of an auth file:
 *
 *     {
 *       "issuers": [{
 *         "issuer": "https://id.example.com",
 *         "audience": "sessiond",            or several: ["sessiond", …]
 *         "algorithms": ["RS256"],
 *         "jwks_uri": "https://…",           where the keys are; or
 *         "jwks_file": "keys.json",          found by OIDC discovery without both
 *         "typ": "at+jwt",                   optional
 *         "clock_tolerance": "5s"            optional; at most 5m
 *       }],
 *       "roles": { "support": ["sessions:read"] }    optional
 *     }
 *
 * Throws a ConfigError with every fault, each by its place: `issuers[0].audience`.
 */
export function parseAuthConfig(text: string, options: AuthConfigOptions): AuthConfig {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new ConfigError([`expected JSON: ${messageOf(error)}`]);
  }
  const reader = new FaultReader();
  const file = reader.object("", json, FILE_KEYS);
  const entries = reader.list("issuers", file["issuers"]);
  const issuers = entries.map((entry, i) => readIssuer(reader, `issuers[${i}]`, entry, options));
  for (const [i, { issuer }] of issuers.entries()) {
    const first = issuers.findIndex((other) => other.issuer === issuer);
    if (issuer !== "" && first < i) {
      reader.fault(`issuers[${i}].issuer`, `the same as issuers[${first}].issuer`);
    }
  }
  const roles = readRoles(reader, file["roles"], options.knownPermissions);
  if (reader.faults.length > 0) throw new ConfigError(reader.faults);
  return { issuers, roles };
}

function readIssuer(
  reader: FaultReader,
  path: string,
  json: unknown,
  { directory }: AuthConfigOptions,
): IssuerConfig {
  const entry = reader.object(path, json, ISSUER_KEYS);
  const issuer = reader.text(`${path}.issuer`, entry["issuer"]);
  const audiences = reader.textOrTexts(`${path}.audience`, entry["audience"]);
  const algorithms = readAlgorithms(reader, `${path}.algorithms`, entry["algorithms"]);
  const keys = readKeySource(reader, path, entry, directory);
  if (keys.kind === "discovery" || issuer.startsWith("http:")) {
    reader.attempt(`${path}.issuer`, () => checkIssuerUrl(issuer));
  }
  const typ = entry["typ"] === undefined ? undefined : reader.text(`${path}.typ`, entry["typ"]);
  const clockToleranceMs = readClockTolerance(reader, path, entry["clock_tolerance"]);
  return {
    ...{ issuer, audiences, algorithms, keys, clockToleranceMs },
    ...(typ !== undefined && { typ }),
  };
}

function checkIssuerUrl(issuer: string): void {
  if (issuer === "") return;
  const url = parseTrustedUrl(issuer);
  if (url.search !== "" || url.hash !== "") {
    throw new Error("expected a URL without query and fragment");
  }
}

function readAlgorithms(reader: FaultReader, path: string, json: unknown): readonly string[] {
  const algorithms = reader.texts(path, json);
  for (const [i, algorithm] of algorithms.entries()) {
    if (ALGORITHMS.includes(algorithm) || algorithm === "") continue;
    const why = /^(none|HS\d+)$/i.test(algorithm)
      ? `${algorithm} is refused: whoever can verify such a token can forge it; `
      : "";
    reader.fault(`${path}[${i}]`, `${why}expected one of ${ALGORITHMS.join(", ")}`);
  }
  return algorithms;
}

function readKeySource(
  reader: FaultReader,
  path: string,
  { jwks_uri: url, jwks_file: file }: Record<string, unknown>,
  directory: string,
): KeySource {
  if (url !== undefined && file !== undefined) {
    reader.fault(`${path}.jwks_file`, "expected only one of jwks_uri and jwks_file");
  }
  if (url !== undefined) {
    const text = reader.text(`${path}.jwks_uri`, url);
    if (text !== "") reader.attempt(`${path}.jwks_uri`, () => parseTrustedUrl(text));
    return { kind: "url", url: text };
  }
  if (file === undefined) return { kind: "discovery" };
  const text = reader.text(`${path}.jwks_file`, file);
  const filePath = resolve(directory, text);
  // The keys are read again when the server needs them; here, to fail early.
  if (text !== "") {
    reader.attempt(`${path}.jwks_file`, () => parseKeySet(readFileSync(filePath, "utf8")));
  }
  return { kind: "file", path: filePath };
}

function readClockTolerance(reader: FaultReader, path: string, json: unknown): number {
  if (json === undefined) return DEFAULT_CLOCK_TOLERANCE_MS;
  const text = reader.text(`${path}.clock_tolerance`, json);
  if (text === "" || text === "0s") return 0;
  const toleranceMs = reader.attempt(`${path}.clock_tolerance`, () => parseDuration(text)) ?? 0;
  if (toleranceMs > MAX_CLOCK_TOLERANCE_MS) {
    reader.fault(`${path}.clock_tolerance`, "expected at most 5m");
  }
  return toleranceMs;
}

function readRoles(
  reader: FaultReader,
  json: unknown,
  knownPermissions: readonly string[],
): ReadonlyMap<string, readonly string[]> {
  const roles = new Map<string, readonly string[]>();
  if (json === undefined) return roles;
  for (const [role, value] of Object.entries(reader.object("roles", json))) {
    const path = `roles.${role}`;
    const permissions = reader.texts(path, value);
    for (const [i, permission] of permissions.entries()) {
      if (permission === "" || knownPermissions.includes(permission)) continue;
      const hint = didYouMean(permission, knownPermissions);
      reader.fault(`${path}[${i}]`, `unknown permission ${JSON.stringify(permission)}${hint}`);
    }
    roles.set(role, permissions);
  }
  return roles;
}

/**
 * Takes JSON apart and notes every fault by its place. What is faulty reads as
 * empty, so that reading can go on and find the next fault.
 */
class FaultReader {
  readonly faults: string[] = [];

  fault(path: string, description: string): void {
    this.faults.push(path === "" ? description : `${path}: ${description}`);
  }

  attempt<T>(path: string, read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      this.fault(path, messageOf(error));
      return undefined;
    }
  }

  /** An object with keys out of `keys`, when given. */
  object(path: string, json: unknown, keys?: readonly string[]): Record<string, unknown> {
    if (typeof json !== "object" || json === null || Array.isArray(json)) {
      this.fault(path, json === undefined ? "required" : "expected a JSON object");
      return {};
    }
    const entries = Object.entries(json);
    for (const [key] of entries) {
      if (keys === undefined || keys.includes(key)) continue;
      const closest = closestName(key, keys);
      const hint = closest ?? `one of ${keys.join(", ")}`;
      this.fault(path === "" ? key : `${path}.${key}`, `unknown key; expected ${hint}`);
    }
    return Object.fromEntries(entries);
  }

  /** A list of at least one value. */
  list(path: string, json: unknown): readonly unknown[] {
    if (Array.isArray(json) && json.length > 0) return json;
    this.fault(path, json === undefined ? "required" : "expected a list of at least one value");
    return [];
  }

  texts(path: string, json: unknown): readonly string[] {
    return this.list(path, json).map((value, i) => this.text(`${path}[${i}]`, value));
  }

  textOrTexts(path: string, json: unknown): readonly string[] {
    return Array.isArray(json) ? this.texts(path, json) : [this.text(path, json)];
  }

  text(path: string, json: unknown): string {
    if (typeof json === "string" && json !== "") return json;
    this.fault(path, json === undefined ? "required" : "expected text");
    return "";
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
