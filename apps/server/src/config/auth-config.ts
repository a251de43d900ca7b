import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { isNamespace, parseDuration } from "@sessiond/core";
import { z } from "zod";
import { parseClaimPath } from "../auth/claims.js";
import {
  ALGORITHMS,
  type AuthConfig,
  type IssuerConfig,
  NAMESPACE_SYNTAX,
} from "../auth/issuer.js";
import { parseKeySet } from "../auth/key-set.js";
import type { KeySource } from "../auth/key-source.js";
import { parseTrustedUrl } from "../network/trusted-url.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import { closestName, didYouMean } from "./closest-name.js";
import { ConfigError } from "./config-error.js";

const MAX_CLOCK_TOLERANCE_MS = 5 * 60_000;

/**
 * Reads the auth file at `path`. Throws a ConfigError with every fault, each by
 * its path in the file: `issuers[0].audience: required`.
 */
export function readAuthFile(path: string): AuthConfig {
  let contents: string;
  try {
    contents = readFileSync(path, "utf8");
  } catch (error) {
    throw new ConfigError([`cannot read ${path}: ${messageOf(error)}`]);
  }
  return parseAuthConfig(contents, dirname(path));
}

/** Like `readAuthFile`, from the file's contents. A relative `jwks_file` starts at `directory`. */
export function parseAuthConfig(contents: string, directory: string): AuthConfig {
  let json: unknown;
  try {
    json = JSON.parse(contents);
  } catch (error) {
    throw new ConfigError([`expected JSON: ${messageOf(error)}`]);
  }
  const { data, error } = fileSchema(directory).safeParse(json);
  if (data !== undefined) return { issuers: data.issuers, roles: data.roles ?? new Map() };
  throw new ConfigError(
    error.issues.map(({ path, message }) =>
      path.length === 0 ? message : `${z.core.toDotPath(path)}: ${message}`,
    ),
  );
}

/** The JSON Schema of the auth file, for editors and for the documentation. */
export function authFileJsonSchema(): z.core.JSONSchema.BaseSchema {
  // Of all versions, editors know this one best.
  const options = { io: "input", target: "draft-07" } as const;
  const rolesObject = z.toJSONSchema(z.record(z.string(), permissions), options);
  delete rolesObject.$schema;
  return z.toJSONSchema(fileSchema("."), { ...options, unrepresentable: () => rolesObject });
}

/** Each message says what was expected, or that the value is required if there is none. */
function expected(what: string) {
  const error = ({ input }: { input?: unknown }) =>
    input === undefined ? "required" : `expected ${what}`;
  return { error };
}

const text = z.string(expected("text")).min(1, expected("text"));
const permissions = list(
  z.enum(KNOWN_PERMISSIONS, { error: ({ input }) => permissionFault(input) }),
);
// A Map: a role may be called `__proto__`, and zod leaves this key out of its objects.
const roles = z.preprocess(
  (json) => (isObject(json) ? new Map(Object.entries(json)) : json),
  z.map(z.string(), permissions, expected("a JSON object")),
);

function list<T extends z.ZodType>(item: T) {
  const message = expected("a list of at least one value");
  return z.array(item, message).min(1, message);
}

function object<T extends z.core.$ZodShape>(shape: T) {
  const keys = Object.keys(shape);
  const hint = (key: string) => closestName(key, keys) ?? `one of ${keys.join(", ")}`;
  const { error } = expected("a JSON object");
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === "unrecognized_keys"
        ? issue.keys.map((key) => `unknown key ${key}; expected ${hint(key)}`).join("; ")
        : error(issue),
  });
}

/** Text that `parse` accepts. The message of its Error becomes the fault. */
function parsed<T>(parse: (value: string) => T) {
  return text.transform((value, ctx) => {
    try {
      return parse(value);
    } catch (error) {
      ctx.addIssue(messageOf(error));
      return z.NEVER;
    }
  });
}

function fileSchema(directory: string) {
  return object({
    $schema: text
      .optional()
      .describe("Where the JSON Schema of the auth file is. Only editors read it."),
    issuers: list(issuerSchema(directory))
      // Faulty issuers are compared as well, so that all faults are told at once.
      .superRefine(checkNames, { when: ({ value }) => Array.isArray(value) })
      .describe("Whose access tokens the server accepts."),
    roles: roles.optional().describe("The permissions that each role of a token grants."),
  });
}

function issuerSchema(directory: string) {
  return object(issuerShape(directory))
    .superRefine(checkNamespace, { when: ({ value }) => isObject(value) })
    .superRefine(checkKeySource, { when: ({ value }) => isObject(value) })
    .transform(
      (entry): IssuerConfig => ({
        issuer: entry.issuer,
        audiences: [entry.audience].flat(),
        algorithms: entry.algorithms,
        keys: entry.jwks_uri ?? entry.jwks_file ?? { kind: "discovery" },
        typ: entry.typ,
        permissionsClaim: entry.permissions_claim,
        rolesClaim: entry.roles_claim,
        namespace: entry.namespace,
        namespaceClaim: entry.namespace_claim,
        clockToleranceMs: entry.clock_tolerance,
      }),
    );
}

function issuerShape(directory: string) {
  return {
    issuer: text.describe("Exactly the `iss` of the issuer's tokens."),
    audience: z
      .union([text, list(text)], expected("text or a list of texts"))
      .describe("One audience or a list. The `aud` of a token must contain one of them."),
    algorithms: list(z.enum(ALGORITHMS, { error: ({ input }) => algorithmFault(input) })).describe(
      "The signature algorithms that a token may have.",
    ),
    jwks_uri: parsed(keyUrl)
      .optional()
      .describe(
        "The URL of the issuer's keys (a JWK Set). If this and `jwks_file` are missing, the server " +
          "asks the issuer for the URL, at `/.well-known/openid-configuration` (OIDC discovery).",
      ),
    jwks_file: parsed((path) => keyFile(resolve(directory, path)))
      .optional()
      .describe(
        "A file with the issuer's keys. A relative path starts at the auth file's directory.",
      ),
    typ: text
      .optional()
      .describe(
        "The `typ` that a token must have, such as `at+jwt`. If this is missing, a token has " +
          "`JWT`, `at+jwt` or no `typ`.",
      ),
    permissions_claim: parsed(parseClaimPath)
      .optional()
      .describe(
        "The claim that lists permissions, such as `scp`, in place of `scope` and `permissions`. Dots " +
          "lead into objects; a name with a colon is a URI and is not divided.",
      ),
    roles_claim: parsed(parseClaimPath)
      .optional()
      .describe("The claim that lists roles, such as `realm_access.roles`, in place of `roles`."),
    namespace: parsed(parseNamespace)
      .optional()
      .describe(
        "The namespace of all callers of this issuer: their sessions, locks and rate limits are " +
          `apart from those of other namespaces. Expects ${NAMESPACE_SYNTAX}.`,
      ),
    namespace_claim: parsed(parseClaimPath)
      .optional()
      .describe(
        "The claim that names a caller's namespace, such as `azp`; dots lead into objects. A " +
          "token without a valid name there is refused. If this and `namespace` are missing, the " +
          "callers share the one namespace that has no name.",
      ),
    clock_tolerance: parsed(parseClockTolerance)
      .prefault("5s")
      .describe("How far the issuer's clock may be from the server's: a duration, at most `5m`."),
  };
}

function keyUrl(url: string): KeySource {
  parseTrustedUrl(url);
  return { kind: "url", url };
}

/** The server reads the keys again when it needs them. To read them here finds faults at start. */
function keyFile(path: string): KeySource {
  parseKeySet(readFileSync(path, "utf8"));
  return { kind: "file", path };
}

function parseClockTolerance(duration: string): number {
  const toleranceMs = duration === "0s" ? 0 : parseDuration(duration);
  if (toleranceMs > MAX_CLOCK_TOLERANCE_MS) throw new Error("expected at most 5m");
  return toleranceMs;
}

function parseNamespace(name: string): string {
  if (isNamespace(name)) return name;
  throw new Error(`expected ${NAMESPACE_SYNTAX}`);
}

/** Compares what is written, so that a faulty value does not hide the other one. */
function checkNamespace(issuer: object, ctx: z.RefinementCtx): void {
  if (!("namespace" in issuer && "namespace_claim" in issuer)) return;
  const message = "expected only one of namespace and namespace_claim";
  ctx.addIssue({ code: "custom", path: ["namespace_claim"], message });
}

/** Keys come from one source, and an issuer that is asked for them has a URL as its name. */
function checkKeySource(issuer: object, ctx: z.RefinementCtx): void {
  const isDiscovered = !("jwks_uri" in issuer || "jwks_file" in issuer);
  if ("jwks_uri" in issuer && "jwks_file" in issuer) {
    const message = "expected only one of jwks_uri and jwks_file";
    ctx.addIssue({ code: "custom", path: ["jwks_file"], message });
  }
  const name = nameOf(issuer);
  if (name === undefined || !(isDiscovered || name.startsWith("http:"))) return;
  try {
    const { search, hash } = parseTrustedUrl(name);
    if (search + hash !== "") throw new Error("expected a URL without query and fragment");
  } catch (error) {
    ctx.addIssue({ code: "custom", path: ["issuer"], message: messageOf(error) });
  }
}

function checkNames(issuers: readonly unknown[], ctx: z.RefinementCtx): void {
  const names = issuers.map(nameOf);
  for (const [i, name] of names.entries()) {
    const first = names.indexOf(name);
    if (name === undefined || first === i) continue;
    const message = `the same as issuers[${first}].issuer`;
    ctx.addIssue({ code: "custom", path: [i, "issuer"], message });
  }
}

/** The name of an issuer that may be faulty. */
function nameOf(issuer: unknown): string | undefined {
  const name = isObject(issuer) ? issuer["issuer"] : undefined;
  return typeof name === "string" && name !== "" ? name : undefined;
}

function algorithmFault(algorithm: unknown): string {
  const expectation = `expected one of ${ALGORITHMS.join(", ")}`;
  if (typeof algorithm !== "string" || !/^(none|HS\d+)$/i.test(algorithm)) return expectation;
  return `${algorithm} is refused: whoever can verify such a token can forge it; ${expectation}`;
}

function permissionFault(permission: unknown): string {
  const hint = typeof permission === "string" ? didYouMean(permission, KNOWN_PERMISSIONS) : "";
  return `unknown permission ${JSON.stringify(permission)}${hint}`;
}

function isObject(json: unknown): json is Readonly<Record<string, unknown>> {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
