import { readFileSync } from "node:fs";
import { Keyring } from "@sessiond/core";
import { TestAuthority } from "@sessiond/core/testing";
import { afterAll, describe, expect, test } from "vitest";
import { loadConfig } from "./config.js";
import { ConfigError } from "./config-error.js";

const authority = new TestAuthority();
afterAll(() => authority[Symbol.dispose]());
const { ca } = authority;
const { cert, key } = authority.issue();
const expired = authority.issue({ expires: true });
const pair = { SESSIOND_TLS_CERT: cert, SESSIOND_TLS_KEY: key };

/** The faults of a configuration, for production or development. Faults of missing keys are left out. */
async function faultsOf(env: Record<string, string>): Promise<readonly string[]> {
  try {
    await loadConfig({ argv: [], env: { SESSIOND_DEV: "true", ...env } });
  } catch (error) {
    if (error instanceof ConfigError) return error.faults;
    throw error;
  }
  return [];
}

describe("a port that others can reach", () => {
  const production = {
    SESSIOND_DEV: "false",
    SESSIOND_KEYRING: Keyring.generateKey("k1"),
    SESSIOND_GRPC_ADDRESS: "0.0.0.0:50051",
  };
  const others = async (env: Record<string, string>) =>
    (await faultsOf({ ...production, ...env })).filter((fault) => !fault.includes("SESSIOND_AUTH"));

  test("needs TLS, or somebody who says that plaintext is wanted", async () => {
    expect(await others({})).toEqual([
      "SESSIOND_GRPC_ADDRESS (--grpc-address): others can reach 0.0.0.0:50051, and without TLS they " +
        "can read tokens and sessions on the way; set SESSIOND_TLS_CERT and SESSIOND_TLS_KEY, or " +
        "SESSIOND_ALLOW_PLAINTEXT=true if a proxy or a mesh in front encrypts",
    ]);
    expect(await others({ SESSIOND_ALLOW_PLAINTEXT: "true" })).toEqual([]);
    expect(await others(pair)).toEqual([]);
    expect(await others({ SESSIOND_GRPC_ADDRESS: "[::1]:1" })).toEqual([]);
  });

  test("is any of the three", async () => {
    const env = { SESSIOND_HTTP_ADDRESS: "[::]:1", SESSIOND_METRICS_ADDRESS: "10.0.0.1:9090" };
    const faults = await others(env);
    expect(faults.map((fault) => fault.split(" ", 1)[0])).toEqual([
      ...["SESSIOND_GRPC_ADDRESS", "SESSIOND_HTTP_ADDRESS", "SESSIOND_METRICS_ADDRESS"],
    ]);
  });

  test("is none of a development server, whatever encrypts", async () => {
    const env = { SESSIOND_DEV: "true", SESSIOND_ALLOW_PLAINTEXT: "true", ...pair };
    expect(await others(env)).toEqual([expect.stringContaining("expected a loopback address")]);
  });
});

test.each([
  [{ SESSIOND_TLS_CERT: cert }, /^SESSIOND_TLS_KEY \(--tls-key\): required with SESSIOND_TLS_CERT/],
  [{ SESSIOND_TLS_KEY: key }, /^SESSIOND_TLS_CERT \(--tls-cert\): required with SESSIOND_TLS_KEY/],
  [{ SESSIOND_TLS_CLIENT_CA: ca }, /^SESSIOND_TLS_CLIENT_CA .*: expected SESSIOND_TLS_CERT/],
  [{ ...pair, SESSIOND_TLS_KEY: ca }, /^SESSIOND_TLS_KEY .*: .*ca\.pem: expected a private key/],
  [
    { ...pair, SESSIOND_TLS_CERT: "no.pem" },
    /^SESSIOND_TLS_CERT .*: no\.pem: cannot read it: ENOENT/,
  ],
  [{ ...pair, SESSIOND_TLS_CLIENT_CA: key }, /^SESSIOND_TLS_CLIENT_CA .*: expected certificates/],
  [
    { SESSIOND_TLS_CERT: expired.cert, SESSIOND_TLS_KEY: expired.key },
    /^SESSIOND_TLS_CERT .*: it has expired on .*: CN=localhost$/,
  ],
  [
    { SESSIOND_REDIS_CA: ca },
    /^SESSIOND_REDIS_CA .*: expected a rediss:\/\/… store in SESSIOND_STORE/,
  ],
  [
    { SESSIOND_REDIS_CA: ca, SESSIOND_STORE: "redis://localhost" },
    /^SESSIOND_REDIS_CA .*: expected a rediss:\/\/… store in SESSIOND_STORE/,
  ],
  [
    { SESSIOND_REDIS_CERT: cert, SESSIOND_STORE: "rediss://localhost" },
    /^SESSIOND_REDIS_KEY .*: required with SESSIOND_REDIS_CERT/,
  ],
  [
    { SESSIOND_REDIS_CA: key, SESSIOND_STORE: "rediss://localhost" },
    /^SESSIOND_REDIS_CA .*: expected certificates in PEM, found none$/,
  ],
])("%j does not start, and the setting at fault is named", async (env, fault) => {
  expect(await faultsOf(env)).toEqual([expect.stringMatching(fault)]);
});

test("a key in place of its path is not repeated", async () => {
  const content = readFileSync(key, "latin1");
  const env = { SESSIOND_TLS_CERT: cert, SESSIOND_TLS_KEY: content };
  expect(await faultsOf(env)).toEqual([
    "SESSIOND_TLS_KEY (--tls-key): expected the path of a PEM file, not its contents",
  ]);
});
