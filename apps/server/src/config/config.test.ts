import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  DEFAULT_RATE_LIMITS,
  DEFAULT_SESSION_POLICY,
  Keyring,
  parseRateLimitPolicies,
} from "@sessiond/core";
import { afterAll, describe, expect, test } from "vitest";
import { DEFAULT_EDGE_LIMITS } from "../edge/edge-limits.js";
import { type Config, dataDirectory, loadConfig } from "./config.js";
import { ConfigError } from "./config-error.js";

const directory = mkdtempSync(join(tmpdir(), "sessiond-config-"));
afterAll(() => rmSync(directory, { recursive: true }));

const authFile = join(directory, "auth.json");
writeFileSync(
  authFile,
  JSON.stringify({
    issuers: [{ issuer: "https://id.example.com", audience: "sessiond", algorithms: ["RS256"] }],
  }),
);
const keyring = Keyring.generateKey("k1");

/** Without a keyring or an auth file unless `env` names them, so for development unless `env` says no. */
function load(env: Record<string, string> = {}, ...argv: string[]): Promise<Config> {
  return loadConfig({ argv, env: { SESSIOND_DEV: "true", ...env } });
}

async function faultsOf(
  env: Record<string, string> = {},
  ...argv: string[]
): Promise<readonly string[]> {
  try {
    await load(env, ...argv);
  } catch (error) {
    if (error instanceof ConfigError) return error.faults;
    throw error;
  }
  return [];
}

test("with --dev alone, everything is as documented", async () => {
  const env = { PATH: "/bin", HOME: "/root" };
  expect(await loadConfig({ argv: ["--dev"], env })).toEqual({
    grpcAddress: { host: "127.0.0.1", port: 50_051 },
    httpAddress: { host: "127.0.0.1", port: 8080 },
    corsOrigins: [],
    console: { isDevelopment: true, login: undefined },
    store: { kind: "sqlite", path: join(".sessiond", "sessiond.db") },
    durability: "auto",
    keyPrefix: "sessiond:",
    edge: DEFAULT_EDGE_LIMITS,
    sessionPolicy: DEFAULT_SESSION_POLICY,
    workers: 1,
    rateLimits: parseRateLimitPolicies(DEFAULT_RATE_LIMITS),
    callBounds: {
      maxInFlight: 1_000,
      quota: [],
      watches: { perNamespace: 1_000, perCaller: 1_000 },
      lockWaiters: { perNamespace: 10_000, perCaller: 1_000 },
      namesPerCaller: 100_000,
    },
    retentionMs: 600_000,
    keyring: undefined,
    auth: undefined,
    issuerKeysMaxAgeMs: 86_400_000,
    shutdownDelayMs: 0,
    reflection: true,
    logLevel: "info",
    audit: { to: "stdout", level: "info" },
    dataDir: ".sessiond",
  });
});

test("every setting can come from the environment", async () => {
  const config = await load({
    SESSIOND_GRPC_ADDRESS: "0.0.0.0:1",
    SESSIOND_HTTP_ADDRESS: "[::]:2",
    SESSIOND_ALLOW_PLAINTEXT: "true",
    SESSIOND_CORS_ORIGINS: "https://app.example.com",
    SESSIOND_STORE: "redis://localhost",
    SESSIOND_DURABILITY: "replicated",
    SESSIOND_KEY_PREFIX: "staging:",
    SESSIOND_IDLE_TIMEOUT: "15m",
    SESSIOND_LIFETIME: "12h",
    SESSIOND_MAX_LIFETIME: "30d",
    SESSIOND_MAX_SESSIONS_PER_USER: "3",
    SESSIOND_LIMIT_POLICY: "reject",
    SESSIOND_RATE_LIMITS: "login: 5 per 1m; signup: 3 per 1h (count refused)",
    SESSIOND_MAX_CALLS_IN_FLIGHT: "500",
    SESSIOND_MAX_CALLS_PER_CALLER: "50",
    SESSIOND_CALLER_QUOTA: "200 per 1s, 5000 per 1m",
    SESSIOND_RETENTION: "1h",
    SESSIOND_DEV: "false",
    SESSIOND_KEYRING: keyring,
    SESSIOND_AUTH: authFile,
    SESSIOND_REFLECTION: "false",
    SESSIOND_LOG_LEVEL: "debug",
    SESSIOND_DATA_DIR: "/var/lib/sessiond",
  });
  expect(config).toMatchObject({
    grpcAddress: { host: "0.0.0.0", port: 1 },
    httpAddress: { host: "::", port: 2 },
    corsOrigins: ["https://app.example.com"],
    store: { kind: "redis" },
    durability: "replicated",
    keyPrefix: "staging:",
    sessionPolicy: {
      idleTimeoutMs: 900_000,
      lifetimeMs: 43_200_000,
      maxLifetimeMs: 2_592_000_000,
      maxSessionsPerUser: 3,
      policy: "reject",
    },
    rateLimits: [{ name: "login" }, { name: "signup", countRefused: true }],
    callBounds: {
      maxInFlight: 500,
      maxPerCaller: 50,
      quota: [
        { limit: 200, windowMs: 1_000 },
        { limit: 5_000, windowMs: 60_000 },
      ],
    },
    retentionMs: 3_600_000,
    auth: { issuers: [{ issuer: "https://id.example.com" }] },
    reflection: false,
    logLevel: "debug",
    dataDir: "/var/lib/sessiond",
  });
  expect(config.keyring?.activeKeyId).toBe("k1");
});

test.each(["staging", ":", "a:b:", "{a}:", "a b:", `${"a".repeat(65)}:`])(
  "a key prefix is one word and a colon, so that no two share a key: %j is refused",
  async (prefix) => {
    expect(await faultsOf({ SESSIOND_KEY_PREFIX: prefix })).toEqual([
      expect.stringMatching(/^SESSIOND_KEY_PREFIX \(--key-prefix\): expected 1 to 64 characters/),
    ]);
  },
);

test("a flag goes before its variable, whose value is then not read", async () => {
  const config = await load({ SESSIOND_IDLE_TIMEOUT: "nonsense" }, "--idle-timeout", "5m");
  expect(config.sessionPolicy.idleTimeoutMs).toBe(300_000);
});

test("an empty environment variable counts as unset", async () => {
  expect(await load({ SESSIOND_IDLE_TIMEOUT: "", SESSIOND_KEYRING: "" })).toEqual(await load());
});

test("every setting can come from a file, and a flag goes before it", async () => {
  const path = join(directory, "setting");
  const fromFile = async (variable: string, text: string, ...argv: string[]) => {
    writeFileSync(path, `${text}\n`);
    return load({ [`${variable}_FILE`]: path }, ...argv);
  };
  expect((await fromFile("SESSIOND_KEYRING", keyring)).keyring?.activeKeyId).toBe("k1");
  expect((await fromFile("SESSIOND_AUTH", authFile)).auth?.issuers).toHaveLength(1);
  expect((await fromFile("SESSIOND_LOG_LEVEL", "warn")).logLevel).toBe("warn");
  expect((await fromFile("SESSIOND_LOG_LEVEL", "x", "--log-level=error")).logLevel).toBe("error");
});

test("a fault in a file names the variable, and repeats nothing of what may be a secret", async () => {
  const path = join(directory, "setting");
  writeFileSync(path, "hunter2");
  const env = { SESSIOND_LOG_LEVEL_FILE: path, SESSIOND_KEYRING_FILE: path };
  const faults = await faultsOf({ SESSIOND_DEV: "", SESSIOND_AUTH: authFile, ...env });
  expect(faults).toEqual([
    "SESSIOND_KEYRING_FILE: key 1: expected kid:base64",
    expect.stringMatching(/^SESSIOND_LOG_LEVEL_FILE: expected trace, [a-z, ]*$/),
  ]);
});

test("the contents of an auth file in place of its path are refused as that", async () => {
  for (const env of [{ SESSIOND_AUTH_FILE: authFile }, { SESSIOND_AUTH: '{"issuers": []}' }]) {
    expect(await faultsOf(env)).toEqual([
      expect.stringContaining(": expected the path of a JSON file, not its contents"),
    ]);
  }
});

test("the default store is in the data directory", async () => {
  const { store } = await load({}, "--data-dir=/srv/x");
  expect(store).toEqual({ kind: "sqlite", path: "/srv/x/sessiond.db" });
});

describe("faults", () => {
  test("a typo in the path of a store does not become a new, empty store", async () => {
    const fault = `expected a folder that exists, and ${directory}/typo does not`;
    const store = `sqlite:${directory}/typo/sessions.db`;
    expect(await faultsOf({ SESSIOND_STORE: store })).toEqual([
      `SESSIOND_STORE (--store): ${fault}`,
    ]);
    const env = { SESSIOND_KEYRING: keyring, SESSIOND_AUTH: authFile, SESSIOND_DEV: "" };
    expect(await faultsOf({ ...env, SESSIOND_DATA_DIR: `${directory}/typo` })).toEqual([
      `SESSIOND_DATA_DIR (--data-dir): ${fault}`,
    ]);
    expect(await faultsOf({ SESSIOND_STORE: `sqlite:${directory}/sessions.db` })).toEqual([]);
    expect(await faultsOf({ SESSIOND_STORE: "sqlite:sessions.db" })).toEqual([]);
    expect(await faultsOf(env)).toEqual([]);
  });

  test("a key prefix has no braces, which a cluster reads, and none of the signs of patterns", async () => {
    for (const prefix of ["a{b}", "a*", "a b", "", "a".repeat(65)]) {
      expect(await faultsOf({}, `--key-prefix=${prefix}`)).toEqual([
        expect.stringMatching(/^SESSIOND_KEY_PREFIX \(--key-prefix\): expected 1 to 64 characters/),
      ]);
    }
  });

  test("replicas need a store that can have them", async () => {
    await expect(load({ SESSIOND_DURABILITY: "replicated" })).rejects.toThrow(
      "SESSIOND_DURABILITY (--durability): expected a Redis store in SESSIOND_STORE (--store)",
    );
  });

  test("all are found at once, and each names its key", async () => {
    const env = {
      SESSIOND_GRPC_ADDRESS: "50051",
      SESSIOND_IDLE_TIMEOUT: "abc",
      SESSIOND_LIMIT_POLICY: "evict",
      SESSIOND_LOG_LEVEL: "loud",
      SESSIOND_STROE: "sqlite::memory:",
    };
    expect(
      await faultsOf(env, "--max-sessions-per-user", "0", "--reflection=yes", "--idel", "x"),
    ).toEqual([
      "--idel: unknown flag",
      "SESSIOND_STROE: unknown variable (did you mean SESSIOND_STORE?)",
      "SESSIOND_GRPC_ADDRESS (--grpc-address): expected host:port such as 127.0.0.1:8080 or [::1]:8080, " +
        'got "50051"',
      'SESSIOND_IDLE_TIMEOUT (--idle-timeout): expected a duration such as 30m or 24h, got "abc"',
      "SESSIOND_MAX_SESSIONS_PER_USER (--max-sessions-per-user): expected a whole number from 1 to 1000, " +
        'got "0"',
      'SESSIOND_LIMIT_POLICY (--limit-policy): expected evict_oldest or reject, got "evict"',
      'SESSIOND_REFLECTION (--reflection): expected true or false, got "yes"',
      "SESSIOND_LOG_LEVEL (--log-level): expected trace, debug, info, warn, error, fatal, or silent, " +
        'got "loud"',
    ]);
  });

  test.each([
    ["1", 0],
    ["1000", 0],
    ["0", 1],
    ["1001", 1],
    ["1.5", 1],
    ["1e2", 1],
  ])("a limit of %s sessions has %d faults", async (count, faults) => {
    expect(await faultsOf({ SESSIOND_MAX_SESSIONS_PER_USER: count })).toHaveLength(faults);
  });

  test.each([
    [{}, 0],
    [{ SESSIOND_GRPC_ADDRESS: "0.0.0.0:50051" }, 5_000],
    [{ SESSIOND_HTTP_ADDRESS: "10.1.2.3:8080", SESSIOND_SHUTDOWN_DELAY: "0s" }, 0],
    [{ SESSIOND_SHUTDOWN_DELAY: "12s" }, 12_000],
  ])("with %j a stopping server waits %d ms for load balancers", async (env, delayMs) => {
    const access = {
      SESSIOND_DEV: "false",
      SESSIOND_KEYRING: keyring,
      SESSIOND_AUTH: authFile,
      SESSIOND_ALLOW_PLAINTEXT: "true",
    };
    expect((await load({ ...access, ...env })).shutdownDelayMs).toBe(delayMs);
  });

  test("a connection's age fits a timer of Node", async () => {
    expect(await faultsOf({ SESSIOND_MAX_CONNECTION_AGE: "20d" })).toEqual([]);
    expect(await faultsOf({ SESSIOND_MAX_CONNECTION_AGE: "25d" })).toEqual([
      'SESSIOND_MAX_CONNECTION_AGE (--max-connection-age): expected at most 20d, got "25d"',
    ]);
  });

  test("keys outlive a failed reload or two: their age is at least five minutes", async () => {
    expect(await faultsOf({ SESSIOND_ISSUER_KEYS_MAX_AGE: "5m" })).toEqual([]);
    expect(await faultsOf({ SESSIOND_ISSUER_KEYS_MAX_AGE: "4m59s" })).toEqual([
      'SESSIOND_ISSUER_KEYS_MAX_AGE (--issuer-keys-max-age): expected at least 5m, got "4m59s"',
    ]);
  });

  test.each(["idle-timeout", "lifetime", "max-lifetime", "retention"])(
    "--%s is more than zero",
    async (flag) => {
      expect(await faultsOf({}, `--${flag}=0s`)).toHaveLength(1);
    },
  );

  test("a session cannot be idle for longer than it lives: both settings are named", async () => {
    expect(await faultsOf({ SESSIOND_IDLE_TIMEOUT: "24h" })).toEqual([]);
    expect(await faultsOf({ SESSIOND_IDLE_TIMEOUT: "30d" })).toEqual([
      "SESSIOND_IDLE_TIMEOUT (--idle-timeout): expected at most 1d, " +
        "which is SESSIOND_LIFETIME (--lifetime), got 30d",
    ]);
  });

  test("a default lifetime can be as long as the longest allowed, and no longer", async () => {
    expect(await faultsOf({ SESSIOND_MAX_LIFETIME: "24h" })).toEqual([]);
    expect(await faultsOf({ SESSIOND_MAX_LIFETIME: "23h59m" })).toEqual([
      "SESSIOND_LIFETIME (--lifetime): expected at most 23h59m, " +
        "which is SESSIOND_MAX_LIFETIME (--max-lifetime), got 1d",
    ]);
  });

  test("both servers on one address is a fault, unless the system chooses the port", async () => {
    const both = (address: string) => [`--grpc-address=${address}`, `--http-address=${address}`];
    expect(await faultsOf({}, ...both("127.0.0.1:0"))).toEqual([]);
    expect(await faultsOf({}, ...both("127.0.0.1:1"))).toEqual([
      "SESSIOND_HTTP_ADDRESS (--http-address): expected another address than " +
        "SESSIOND_GRPC_ADDRESS (--grpc-address), 127.0.0.1:1",
    ]);
    const metrics = ["--http-address=127.0.0.1:2", "--metrics-address=127.0.0.1:2"];
    expect(await faultsOf({}, ...metrics)).toEqual([
      "SESSIOND_METRICS_ADDRESS (--metrics-address): expected another address than " +
        "SESSIOND_HTTP_ADDRESS (--http-address), 127.0.0.1:2",
    ]);
    expect(await faultsOf({}, "--grpc-address=127.0.0.1:1", "--http-address=127.0.0.2:1")).toEqual(
      [],
    );
  });

  test("no secret is repeated, whichever setting has it", async () => {
    const secret = "hunter2";
    const faults = await faultsOf(
      {
        SESSIOND_STORE: `redis://:${secret}@nowhere:x`,
        SESSIOND_KEYRING: `k1:${secret}`,
        SESSIOND_PASSWORD: secret,
      },
      `--redis=${secret}`,
      "--password",
      secret,
      secret,
    );
    expect(faults).toHaveLength(6);
    expect(faults.join("\n")).not.toContain(secret);
  });

  test("a long value is repeated in part", async () => {
    const [fault] = await faultsOf({ SESSIOND_LOG_LEVEL: "x".repeat(10_000) });
    expect(fault).toMatch(/got "x{64}…"$/);
  });

  test("the faults of the auth file are among them, by their paths in the file", async () => {
    const path = join(directory, "faulty.json");
    writeFileSync(path, JSON.stringify({ issuers: [{}], roles: { a: ["sessions:raed"] } }));
    expect(await faultsOf({ SESSIOND_AUTH: path })).toEqual([
      "SESSIOND_AUTH (--auth): issuers[0].issuer: required",
      "SESSIOND_AUTH (--auth): issuers[0].audience: required",
      "SESSIOND_AUTH (--auth): issuers[0].algorithms: required",
      "SESSIOND_AUTH (--auth): roles.a[0]: " +
        'unknown permission "sessions:raed" (did you mean sessions:read?)',
    ]);
    expect(await faultsOf({ SESSIOND_AUTH: "nowhere.json" })).toEqual([
      expect.stringMatching(/^SESSIOND_AUTH \(--auth\): cannot read .*nowhere\.json: ENOENT/),
    ]);
  });
});

describe("without --dev", () => {
  const NO_KEYRING =
    "SESSIOND_KEYRING (--keyring): required without --dev; make a key with `sessiond keygen`";
  const NO_AUTH =
    "SESSIOND_AUTH (--auth): required without --dev; name a JSON file of the issuers whose tokens " +
    "to accept, as docs/configuration.md says";
  const given = { SESSIOND_KEYRING: keyring, SESSIOND_AUTH: authFile };

  test.each([
    [{}, [NO_KEYRING, NO_AUTH]],
    [{ SESSIOND_KEYRING: keyring }, [NO_AUTH]],
    [{ SESSIOND_AUTH: authFile }, [NO_KEYRING]],
    [given, []],
  ])("a server needs a keyring and an auth file wherever it listens: %j", async (env, expected) => {
    for (const address of ["127.0.0.1:1", "0.0.0.0:50051"]) {
      const flags = [`--grpc-address=${address}`, "--allow-plaintext"];
      const faults = await faultsOf({ SESSIOND_DEV: "", ...env }, ...flags);
      expect(faults).toEqual(expected);
    }
    expect(await faultsOf({ SESSIOND_DEV: "false", ...env })).toEqual(expected);
  });

  test("a faulty keyring is not also told to be missing", async () => {
    const env = { ...given, SESSIOND_DEV: "", SESSIOND_KEYRING: "k1" };
    expect(await faultsOf(env)).toEqual([
      "SESSIOND_KEYRING (--keyring): key 1: expected kid:base64",
    ]);
  });
});

describe("with --dev", () => {
  test("a keyring or an auth file is used without the other", async () => {
    const sealing = await load({ SESSIOND_KEYRING: keyring });
    expect([sealing.keyring?.activeKeyId, sealing.auth]).toEqual(["k1", undefined]);
    const authenticating = await load({ SESSIOND_AUTH: authFile });
    expect([authenticating.keyring, authenticating.auth?.issuers.length]).toEqual([undefined, 1]);
  });

  test("a server listens on loopback only, even if nothing is missing", async () => {
    expect(await faultsOf({}, "--grpc-address=[::1]:1", "--http-address=localhost:2")).toEqual([]);
    const env = { SESSIOND_KEYRING: keyring, SESSIOND_AUTH: authFile };
    expect(await faultsOf(env, "--grpc-address=0.0.0.0:1", "--http-address=10.0.0.1:0")).toEqual([
      "SESSIOND_GRPC_ADDRESS (--grpc-address): expected a loopback address with " +
        "SESSIOND_DEV (--dev), got 0.0.0.0:1",
      "SESSIOND_HTTP_ADDRESS (--http-address): expected a loopback address with " +
        "SESSIOND_DEV (--dev), got 10.0.0.1:0",
    ]);
  });
});

describe("the console", () => {
  const CLIENT = { SESSIOND_AUTH: authFile, SESSIOND_CONSOLE_CLIENT_ID: "console" };
  const login = { clientId: "console", scope: "openid", parameters: {} };

  test("is off unless it is asked for, and on with --dev unless nobody could log in", async () => {
    const production = { ...CLIENT, SESSIOND_DEV: "false", SESSIOND_KEYRING: keyring };
    expect((await load(production)).console).toBe(undefined);
    const { console } = await load({ ...production, SESSIOND_CONSOLE: "true" });
    expect(console).toEqual({ isDevelopment: false, login });
    expect((await load({}, "--console=false")).console).toBe(undefined);
    expect((await load({ SESSIOND_AUTH: authFile })).console).toBe(undefined);
    expect((await load(CLIENT)).console).toEqual({ isDevelopment: false, login });
  });

  test("needs a client id, and an issuer that browsers can reach", async () => {
    const asked = { ...CLIENT, SESSIOND_CONSOLE: "true" };
    expect(await faultsOf({ ...asked, SESSIOND_CONSOLE_CLIENT_ID: "" })).toEqual([
      "SESSIOND_CONSOLE_CLIENT_ID (--console-client-id): required with SESSIOND_CONSOLE (--console)",
    ]);
    const file = join(directory, "no-url.json");
    const issuer = { issuer: "our-issuer", audience: "a", algorithms: ["RS256"] };
    writeFileSync(file, JSON.stringify({ issuers: [{ ...issuer, jwks_uri: "https://a/k" }] }));
    expect(await faultsOf({ ...asked, SESSIOND_AUTH: file })).toEqual([
      "SESSIOND_AUTH (--auth): issuers[0].issuer: expected a URL such as https://id.example.com, " +
        "where operators log in",
    ]);
  });

  test.each([
    ["state=mine", "expected no state, which the console sets"],
    ["audience", "expected NAME=VALUE, separated by &"],
  ])("sends no login parameter such as %j", async (text, fault) => {
    const key = "SESSIOND_CONSOLE_LOGIN_PARAMETERS (--console-login-parameters)";
    expect(await faultsOf({ SESSIOND_CONSOLE_LOGIN_PARAMETERS: text })).toEqual([
      `${key}: ${fault}, got "${text}"`,
    ]);
  });
});

test("a faulty rate limit is told by the name of its policy", async () => {
  expect(await faultsOf({ SESSIOND_RATE_LIMITS: "login: 10 per 15m; signup: 0 per 1h" })).toEqual([
    expect.stringMatching(/^SESSIOND_RATE_LIMITS \(--rate-limits\): policy "signup": expected/),
  ]);
});

test("the data directory alone comes from the flag, the environment, or is .sessiond", () => {
  expect(dataDirectory("a", { SESSIOND_DATA_DIR: "b" })).toBe("a");
  expect(dataDirectory(undefined, { SESSIOND_DATA_DIR: "b" })).toBe("b");
  expect(dataDirectory(undefined, { SESSIOND_DATA_DIR: "" })).toBe(".sessiond");
  const path = join(directory, "setting");
  writeFileSync(path, "c\n");
  expect(dataDirectory(undefined, { SESSIOND_DATA_DIR_FILE: path })).toBe("c");
  expect(() => dataDirectory("", {})).toThrow("expected a path");
});
