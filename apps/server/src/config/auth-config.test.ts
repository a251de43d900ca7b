import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exportJWK, generateKeyPair } from "jose";
import { afterAll, describe, expect, test } from "vitest";
import { ALGORITHMS, type AuthConfig } from "../auth/issuer.js";
import { parseAuthConfig, readAuthFile } from "./auth-config.js";
import { ConfigError } from "./config-error.js";

const directory = mkdtempSync(join(tmpdir(), "sessiond-auth-"));
afterAll(() => rmSync(directory, { recursive: true }));

const { privateKey, publicKey } = await generateKeyPair("ES256", { extractable: true });
writeFileSync(join(directory, "jwks.json"), JSON.stringify({ keys: [await exportJWK(publicKey)] }));
writeFileSync(
  join(directory, "private.json"),
  JSON.stringify({ keys: [await exportJWK(privateKey)] }),
);

const issuer = { issuer: "https://id.example.com", audience: "sessiond", algorithms: ["RS256"] };

function parse(json: unknown): AuthConfig {
  const text = typeof json === "string" ? json : JSON.stringify(json);
  return parseAuthConfig(text, directory);
}

function faultsOf(json: unknown): readonly string[] {
  try {
    parse(json);
  } catch (error) {
    if (error instanceof ConfigError) return error.faults;
    throw error;
  }
  return [];
}

/** The faults of a file whose one issuer is changed like this. */
function issuerFaults(change: Record<string, unknown>): readonly string[] {
  return faultsOf({ issuers: [{ ...issuer, ...change }] });
}

test("an issuer needs a name, an audience and algorithms; the rest has defaults", () => {
  const { issuers, roles } = parse({ issuers: [issuer] });
  expect(issuers).toEqual([
    {
      issuer: "https://id.example.com",
      audiences: ["sessiond"],
      algorithms: ["RS256"],
      keys: { kind: "discovery" },
      clockToleranceMs: 5_000,
    },
  ]);
  expect(roles).toEqual(new Map());
});

test("every key has its effect", () => {
  const { issuers, roles } = parse({
    $schema: "./auth.schema.json",
    issuers: [
      {
        ...{ ...issuer, audience: ["sessiond", "other"], algorithms: ["PS512", "EdDSA"] },
        ...{ jwks_uri: "https://id.example.com/jwks", typ: "at+jwt", clock_tolerance: "30s" },
      },
      {
        ...issuer,
        issuer: "cluster",
        jwks_file: "jwks.json",
        namespace: "shop",
        permissions_claim: "scp",
      },
      { ...issuer, issuer: "https://c.example.com", namespace_claim: "realm_access.tenant" },
      {
        ...issuer,
        issuer: "https://a.example.com",
        namespace_claim: "https://b.example.com/c",
        roles_claim: "realm_access.roles",
      },
    ],
    roles: { support: ["sessions:read"], admin: ["sessions:read", "sessions:create"] },
  });
  expect(issuers).toMatchObject([
    {
      audiences: ["sessiond", "other"],
      algorithms: ["PS512", "EdDSA"],
      keys: { kind: "url", url: "https://id.example.com/jwks" },
      typ: "at+jwt",
      clockToleranceMs: 30_000,
    },
    {
      issuer: "cluster",
      keys: { kind: "file", path: join(directory, "jwks.json") },
      permissionsClaim: ["scp"],
      namespace: "shop",
    },
    { namespaceClaim: ["realm_access", "tenant"] },
    { namespaceClaim: ["https://b.example.com/c"], rolesClaim: ["realm_access", "roles"] },
  ]);
  expect(Object.fromEntries(roles)).toEqual({
    support: ["sessions:read"],
    admin: ["sessions:read", "sessions:create"],
  });
});

test("every fault is found at once, each by its path in the file", () => {
  expect(
    faultsOf({
      issuers: [
        { issuer: 7, audience: [], algorithms: ["none", "RS256", 1], clock_tolerance: "soon" },
        { ...issuer, audience: ["a", ""], jwks_url: "x", typ: null },
        "https://id.example.com",
        { ...issuer, typ: "", jwks_uri: "id", jwks_file: "nowhere.json" },
      ],
      roles: { support: ["sessions:raed"], admin: "sessions:read", none: [] },
      issuer: {},
    }),
  ).toEqual([
    "issuers[0].issuer: expected text",
    "issuers[0].audience: expected a list of at least one value",
    "issuers[0].algorithms[0]: none is refused: whoever can verify such a token can forge it; " +
      `expected one of ${ALGORITHMS.join(", ")}`,
    `issuers[0].algorithms[2]: expected one of ${ALGORITHMS.join(", ")}`,
    "issuers[0].clock_tolerance: expected a duration such as 30m or 24h",
    "issuers[1].audience[1]: expected text",
    "issuers[1].typ: expected text",
    "issuers[1]: unknown key jwks_url; expected jwks_uri",
    "issuers[2]: expected a JSON object",
    "issuers[3].jwks_uri: expected a URL such as https://id.example.com",
    expect.stringMatching(/^issuers\[3\]\.jwks_file: ENOENT/),
    "issuers[3].typ: expected text",
    "issuers[3].jwks_file: expected only one of jwks_uri and jwks_file",
    "issuers[3].issuer: the same as issuers[1].issuer",
    'roles.support[0]: unknown permission "sessions:raed" (did you mean sessions:read?)',
    "roles.admin: expected a list of at least one value",
    "roles.none: expected a list of at least one value",
    "unknown key issuer; expected issuers",
  ]);
});

test.each([
  ["", "expected JSON: Unexpected end of JSON input"],
  ["null", "expected a JSON object"],
  ["[]", "expected a JSON object"],
  ["{}", "issuers: required"],
  ['{"issuers":[]}', "issuers: expected a list of at least one value"],
])("a file with %s has no issuers", (text, expected) => {
  expect(faultsOf(text)).toContain(expected);
});

describe("algorithms", () => {
  test("are those of asymmetric keys", () => {
    expect(issuerFaults({ algorithms: ALGORITHMS })).toEqual([]);
  });

  test.each(["none", "HS256", "hs512"])("%s is refused, with the reason", (algorithm) => {
    expect(issuerFaults({ algorithms: ["RS256", algorithm] })).toEqual([
      expect.stringContaining(`issuers[0].algorithms[1]: ${algorithm} is refused: whoever can`),
    ]);
  });

  test.each(["rs256", "ES256K", "RSA-OAEP"])("%s is unknown", (algorithm) => {
    expect(issuerFaults({ algorithms: [algorithm] })).toEqual([
      expect.stringContaining("issuers[0].algorithms[0]: expected one of RS256"),
    ]);
  });
});

describe("an issuer", () => {
  test("over plain http is refused unless it is on this machine", () => {
    expect(issuerFaults({ issuer: "http://127.0.0.1:9000" })).toEqual([]);
    const fault = "expected an https:// URL; http:// is for loopback hosts only";
    for (const keys of [{}, { jwks_file: "jwks.json" }]) {
      expect(issuerFaults({ issuer: "http://id.example.com", ...keys })).toEqual([
        `issuers[0].issuer: ${fault}`,
      ]);
    }
    expect(issuerFaults({ jwks_uri: "http://id.example.com/k" })).toEqual([
      `issuers[0].jwks_uri: ${fault}`,
    ]);
  });

  test("needs no URL if its keys are in a file", () => {
    expect(issuerFaults({ issuer: "cluster", jwks_file: "jwks.json" })).toEqual([]);
    expect(issuerFaults({ issuer: "cluster" })).toEqual([
      expect.stringContaining("expected a URL"),
    ]);
  });

  test("has neither query nor fragment if its keys are discovered", () => {
    for (const issuerUrl of ["https://id.example.com/?a", "https://id.example.com/#a"]) {
      expect(issuerFaults({ issuer: issuerUrl })).toEqual([
        "issuers[0].issuer: expected a URL without query and fragment",
      ]);
    }
  });

  test("can be named only once", () => {
    expect(faultsOf({ issuers: [issuer, { ...issuer, audience: "b" }] })).toEqual([
      "issuers[1].issuer: the same as issuers[0].issuer",
    ]);
  });

  test("has one source of keys", () => {
    expect(issuerFaults({ jwks_uri: "https://id.example.com/k", jwks_file: "jwks.json" })).toEqual([
      "issuers[0].jwks_file: expected only one of jwks_uri and jwks_file",
    ]);
  });

  test("has a namespace that can stand in keys and logs, or a claim that names it", () => {
    for (const namespace of ["", "Shop", "a:b", "-", "s".repeat(65), null, ["shop"]]) {
      expect(issuerFaults({ namespace })).toEqual([
        expect.stringMatching(/^issuers\[0\]\.namespace: expected (text|1 to 64 characters)/),
      ]);
    }
    expect(issuerFaults({ namespace: "shop", namespace_claim: "azp" })).toEqual([
      "issuers[0].namespace_claim: expected only one of namespace and namespace_claim",
    ]);
  });

  test("names a claim by the names that lead to it", () => {
    for (const key of ["permissions_claim", "roles_claim", "namespace_claim"]) {
      for (const path of ["", ".", "azp.", "a..b", ["azp"], 7]) {
        const fault = new RegExp(`^issuers\\[0\\]\\.${key}: expected (text|the name of a claim)`);
        expect(issuerFaults({ [key]: path })).toEqual([expect.stringMatching(fault)]);
      }
    }
  });

  test("may have a clock that is up to five minutes off", () => {
    expect(parse({ issuers: [{ ...issuer, clock_tolerance: "5m" }] }).issuers).toMatchObject([
      { clockToleranceMs: 300_000 },
    ]);
    expect(issuerFaults({ clock_tolerance: "0s" })).toEqual([]);
    for (const tolerance of ["5m1ms", "-5s", "5"]) {
      expect(issuerFaults({ clock_tolerance: tolerance })).toHaveLength(1);
    }
  });
});

test("a file of keys exists and holds public keys", () => {
  expect(issuerFaults({ jwks_file: "nowhere.json" })).toEqual([
    expect.stringMatching(/^issuers\[0\]\.jwks_file: ENOENT/),
  ]);
  expect(issuerFaults({ jwks_file: "private.json" })).toEqual([
    "issuers[0].jwks_file: expected public keys only; one of them is private or symmetric",
  ]);
});

test("a role can be named like a property of every object", () => {
  const config = parse(
    `{"issuers":[${JSON.stringify(issuer)}],"roles":{"__proto__":["sessions:read"]}}`,
  );
  expect(config.roles.get("__proto__")).toEqual(["sessions:read"]);
  expect(config.roles.get("constructor")).toBeUndefined();
});

test("a file of keys is looked for beside the auth file", () => {
  const path = join(directory, "auth.json");
  writeFileSync(path, JSON.stringify({ issuers: [{ ...issuer, jwks_file: "./jwks.json" }] }));
  expect(readAuthFile(path).issuers[0]?.keys).toEqual({
    kind: "file",
    path: join(directory, "jwks.json"),
  });
});
