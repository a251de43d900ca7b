import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Keyring } from "@sessiond/core";
import { decodeJwt } from "jose";
import { afterAll, describe, expect, test } from "vitest";
import { createAccessTokenVerifier } from "../auth/access-token.js";
import { developmentAuthConfig } from "../auth/development-keys.js";
import type { Config } from "../config/config.js";
import type { Environment } from "../config/environment.js";
import { runCli } from "./cli.js";
import type { LockRunOptions } from "./remote/lock-run.js";
import type { RateLimitCallOptions } from "./remote/rate-limit-calls.js";
import type { ResealOptions } from "./reseal.js";

const directory = mkdtempSync(join(tmpdir(), "sessiond-cli-"));
afterAll(() => rmSync(directory, { recursive: true }));

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly served: readonly Config[];
  readonly resealed: readonly ResealOptions[];
  readonly lockRuns: readonly LockRunOptions[];
  readonly rateLimitCalls: readonly RateLimitCallOptions[];
}

interface Surroundings {
  readonly env?: Environment;
  readonly serve?: (config: Config) => Promise<void>;
  readonly reseal?: (options: ResealOptions) => Promise<number>;
}

async function run(
  argv: readonly string[],
  { env = {}, serve, reseal }: Surroundings = {},
): Promise<Outcome> {
  const served: Config[] = [];
  const resealed: ResealOptions[] = [];
  const lockRuns: LockRunOptions[] = [];
  const rateLimitCalls: RateLimitCallOptions[] = [];
  const text = { stdout: "", stderr: "" };
  const code = await runCli({
    argv,
    env,
    stdout: {
      write: (part) => {
        text.stdout += part;
      },
    },
    stderr: {
      write: (part) => {
        text.stderr += part;
      },
    },
    serve: serve ?? (async (config) => void served.push(config)),
    reseal: reseal ?? (async (options) => Math.min(resealed.push(options), 0)),
    lockRun: async (options) => lockRuns.push(options),
    rateLimitCall: async (options) => rateLimitCalls.push(options),
  });
  return { code, ...text, served, resealed, lockRuns, rateLimitCalls };
}

describe("help", () => {
  test.each([[[]], [["help"]], [["--help"]], [["-h"]], [["help", "help"]]])(
    "%j prints every command",
    async (argv) => {
      const { code, stdout, stderr } = await run(argv);
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      for (const command of ["serve", "token", "keygen", "keys", "lock", "rate-limit", "help"]) {
        expect(stdout).toMatch(new RegExp(`^  ${command} +\\w`, "m"));
      }
    },
  );

  test.each([
    ["serve", "SESSIOND_GRPC_ADDRESS"],
    ["token", "sessions:create"],
    ["keygen", "--kid"],
    ["keys", "SESSIOND_KEYRING"],
    ["lock", "SESSIOND_FENCING_TOKEN"],
    ["rate-limit", "--cost"],
  ])("%s --help prints what it takes, and does nothing else", async (command, expected) => {
    const outcomes = [
      await run([command, "--help"]),
      await run([command, "-h"]),
      await run(["help", command]),
      await run([command, "--nonsense", "--help"]),
    ];
    for (const outcome of outcomes) {
      expect(outcome).toEqual({ ...outcomes[0], code: 0, stderr: "", served: [], resealed: [] });
      expect(outcome.stdout).toContain(`Usage: sessiond ${command}`);
      expect(outcome.stdout).toContain(expected);
    }
  });

  test("a new key goes behind the old one first, whichever command is asked", async () => {
    for (const command of ["keygen", "keys"]) {
      const { stdout } = await run([command, "--help"]);
      expect(stdout).toMatch(/behind the old( one)?, SESSIOND_KEYRING="old:…,new:…"/);
    }
  });

  test("the version is that of the package", async () => {
    expect(await run(["--version"])).toMatchObject({ code: 0, stdout: "sessiond 0.1.0\n" });
  });
});

describe("serve", () => {
  test("serves with the configuration of flags and environment", async () => {
    const env = { SESSIOND_IDLE_TIMEOUT: "5m", SESSIOND_LIFETIME: "1h" };
    const { code, served } = await run(["serve", "--lifetime", "2h"], { env });
    expect(code).toBe(0);
    expect(served).toMatchObject([
      { sessionPolicy: { idleTimeoutMs: 300_000, lifetimeMs: 7_200_000 } },
    ]);
  });

  test("does not start with a faulty configuration, and prints every fault", async () => {
    const outcome = await run(["serve", "--store", "x", "--nonsense"], {
      env: { SESSIOND_LIFETIME: "x" },
    });
    expect(outcome).toMatchObject({ code: 2, stdout: "", served: [] });
    expect(outcome.stderr.split("\n")).toEqual([
      "sessiond: --nonsense: unknown flag",
      expect.stringMatching(/^sessiond: SESSIOND_STORE \(--store\): expected/),
      expect.stringMatching(/^sessiond: SESSIOND_LIFETIME \(--lifetime\): expected/),
      "",
    ]);
  });

  test("fails with 1 where the server does, and prints why", async () => {
    const serve = async () => {
      throw new Error("cannot listen", { cause: new Error("address in use") });
    };
    expect(await run(["serve"], { serve })).toMatchObject({
      code: 1,
      stderr: "sessiond: cannot listen\n  caused by: address in use\n",
    });
  });
});

describe("token", () => {
  const dataDir = join(directory, "data");

  test("prints a token alone, which the development server accepts", async () => {
    const { code, stdout, stderr } = await run([
      ...["token", "--permissions", "sessions:create, sessions:read,sessions:read"],
      ...["--data-dir", dataDir],
    ]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+\n$/);
    expect(stderr).toContain(`made a new signing key, ${join(dataDir, "development-signing-key")}`);
    expect(stderr).toContain("--data-dir");
    const verifier = createAccessTokenVerifier(await developmentAuthConfig(dataDir));
    expect(await verifier.verify(stdout.trim())).toMatchObject({
      subject: "development",
      permissions: new Set(["sessions:create", "sessions:read"]),
    });
    const { iat = 0, exp = 0 } = decodeJwt(stdout.trim());
    expect(exp - iat).toBe(3_600);
  });

  test("takes a subject, a time to live, and the data directory from the environment", async () => {
    const { stdout, stderr } = await run(
      ["token", "--permissions=sessions:read", "--subject=billing", "--ttl=5m"],
      { env: { SESSIOND_DATA_DIR: dataDir, SESSIOND_UNRELATED: "x" } },
    );
    expect(stderr).toBe("");
    const { sub, iat = 0, exp = 0 } = decodeJwt(stdout.trim());
    expect({ sub, ttl: exp - iat }).toEqual({ sub: "billing", ttl: 300 });
  });

  test("refuses what it does not understand, all at once, and makes no key", async () => {
    const unused = join(directory, "unused");
    const outcome = await run([
      ...["token", "--permissions", "sessions:fly,sessions:read", "--subject=", "--ttl=0s"],
      ...["--data-dir", unused, "--scope", "x"],
    ]);
    expect(outcome).toMatchObject({ code: 2, stdout: "" });
    expect(outcome.stderr.split("\n")).toEqual([
      "sessiond: --scope: unknown flag",
      'sessiond: --permissions: unknown "sessions:fly"; known permissions: ' +
        "sessions:create, sessions:read, sessions:update, sessions:delete, " +
        "locks:use, rate_limits:use",
      "sessiond: --subject: expected 1 to 256 characters",
      "sessiond: --ttl: expected a duration longer than zero",
      "",
    ]);
    expect(readdirSync(directory)).not.toContain("unused");
  });

  test.each([[[]], [["--permissions", ""]], [["--permissions=,"]]])(
    "with %j lists the known permissions",
    async (flags) => {
      const { code, stderr } = await run(["token", ...flags]);
      expect(code).toBe(2);
      expect(stderr).toContain("expected at least one; known permissions: sessions:create");
    },
  );

  test("fails with 1 where the data directory cannot be used", async () => {
    const outcome = await run(["token", "--permissions=sessions:read", "--data-dir=/dev/null/x"]);
    expect(outcome).toMatchObject({ code: 1, stdout: "" });
    expect(outcome.stderr).toContain("ENOTDIR");
  });
});

describe("keygen", () => {
  test("prints a key as SESSIOND_KEYRING takes it, another one each time", async () => {
    const [first, second] = [await run(["keygen"]), await run(["keygen"])];
    expect(first.code).toBe(0);
    expect(first.stdout).not.toBe(second.stdout);
    const keyring = Keyring.parse(`${first.stdout.trim()},${second.stdout.trim()}`);
    expect(first.stdout).toContain(`${keyring.activeKeyId}:`);
  });

  test("takes the key's name", async () => {
    const { stdout } = await run(["keygen", "--kid", "2026-01"]);
    expect(Keyring.parse(stdout.trim()).activeKeyId).toBe("2026-01");
  });

  test.each(["", "a:b", "a,b", "a b", "x".repeat(33)])('refuses the name "%s"', async (kid) => {
    expect(await run(["keygen", `--kid=${kid}`])).toMatchObject({
      code: 2,
      stdout: "",
      stderr: expect.stringContaining("--kid: expected 1 to 32 characters"),
    });
  });
});

describe("keys reseal", () => {
  const keyring = `${Keyring.generateKey("new")},${Keyring.generateKey("old")}`;

  test("works on the store of flags and environment, under the first key", async () => {
    const env = { SESSIOND_KEYRING: keyring, SESSIOND_STORE: "redis://localhost/3" };
    const { code, resealed } = await run(["keys", "reseal", "--store=sqlite:x.db"], { env });
    expect(code).toBe(0);
    expect(resealed).toMatchObject([
      { config: { store: { kind: "sqlite", path: "x.db" } }, keyring: { activeKeyId: "new" } },
    ]);
  });

  test("takes a server's environment as it is, though no auth file is at hand", async () => {
    const env = {
      SESSIOND_KEYRING: keyring,
      SESSIOND_GRPC_ADDRESS: "0.0.0.0:50051",
      SESSIOND_HTTP_ADDRESS: "0.0.0.0:8080",
      SESSIOND_AUTH: "/no/such/file.json",
    };
    expect(await run(["keys", "reseal"], { env })).toMatchObject({ code: 0, stderr: "" });
  });

  test("answers the exit code that it is given, as when a signal stopped it", async () => {
    const env = { SESSIOND_KEYRING: keyring };
    const reseal = async () => 130;
    expect(await run(["keys", "reseal"], { env, reseal })).toMatchObject({ code: 130 });
  });

  test("makes up no key where none is given", async () => {
    const outcome = await run(["keys", "reseal", "--data-dir", join(directory, "none")]);
    expect(outcome).toMatchObject({ code: 2, stdout: "", resealed: [] });
    expect(outcome.stderr).toContain("SESSIOND_KEYRING (--keyring): required");
    expect(readdirSync(directory)).not.toContain("none");
  });

  test.each([[["keys"]], [["keys", "rotate"]], [["keys", "--store=sqlite:x.db"]]])(
    "%j is refused",
    async (argv) => {
      const outcome = await run(argv, { env: { SESSIOND_KEYRING: keyring } });
      expect(outcome).toMatchObject({ code: 2, resealed: [] });
      expect(outcome.stderr).toContain("expected sessiond keys reseal");
    },
  );

  test("refuses a variable that is misspelled, which would mean another store", async () => {
    const env = { SESSIOND_KEYRING: keyring, SESSIOND_STROE: "redis://localhost" };
    const outcome = await run(["keys", "reseal"], { env });
    expect(outcome).toMatchObject({ code: 2, resealed: [] });
    expect(outcome.stderr).toContain("did you mean SESSIOND_STORE?");
  });
});

describe("lock run", () => {
  const token = ["--token", "access.token.signature"];

  test("runs a command under a lock of the development server", async () => {
    const { code, lockRuns } = await run([
      ...["lock", "run", "invoices", "--ttl=5s", ...token],
      ...["--", "make", "--help", "--", "all"],
    ]);
    // What the run under the lock answers.
    expect(code).toBe(1);
    expect(lockRuns).toMatchObject([
      {
        server: { url: new URL("http://127.0.0.1:50051"), token: "access.token.signature" },
        name: "invoices",
        ttlMs: 5_000,
        waitTimeoutMs: 20_000,
        command: "make",
        args: ["--help", "--", "all"],
      },
    ]);
  });

  test("takes the server and the token from the environment, and gives it to the command", async () => {
    const env = { SESSIOND_SERVER: "sessiond.internal:50051", SESSIOND_TOKEN: "a.b.c", HOME: "/x" };
    const { lockRuns } = await run(["lock", "run", "x", "--wait-timeout=0s", "--", "ls"], { env });
    expect(lockRuns).toMatchObject([
      {
        server: { url: new URL("http://sessiond.internal:50051"), token: "a.b.c" },
        waitTimeoutMs: 0,
        ttlMs: 30_000,
        env,
      },
    ]);
  });

  test("makes a token where the data directory is a development server's", async () => {
    const dataDir = join(directory, "lock-data");
    await run(["token", "--permissions=locks:use", "--data-dir", dataDir]);
    const flags = ["lock", "run", "x", "--data-dir", dataDir];
    const { lockRuns } = await run([...flags, "--", "ls"]);
    expect(lockRuns).toMatchObject([{ server: { token: undefined, dataDir } }]);
    // Whoever is asked for it elsewhere could use it here.
    const remote = await run([...flags, "--server", "http://example.com:50051", "--", "ls"]);
    expect(remote).toMatchObject({ code: 2, lockRuns: [] });
    expect(remote.stderr).toContain("--token (SESSIOND_TOKEN): required");
  });

  test("makes up no key where there is none, since no server would know it", async () => {
    const dataDir = join(directory, "no-lock-data");
    const outcome = await run(["lock", "run", "x", "--data-dir", dataDir, "--", "ls"]);
    expect(outcome).toMatchObject({ code: 2, lockRuns: [] });
    expect(outcome.stderr).toContain(`no development server's key in ${dataDir}`);
    expect(outcome.stderr).toContain("--data-dir");
    expect(outcome.stderr).toContain("--token");
    expect(readdirSync(directory)).not.toContain("no-lock-data");
  });

  test.each([
    [["lock"], "expected sessiond lock run NAME"],
    [["lock", "run"], "the lock's NAME is missing after run: sessiond lock run NAME"],
    [["lock", "run", "--", "ls"], "the lock's NAME is missing after run"],
    [["lock", "run", "--ttl=5s", "--", "ls"], "the lock's NAME is missing after run"],
    [["lock", "steal", "x", "--", "ls"], "expected sessiond lock run NAME"],
    [["lock", "run", "x", ...token], "the -- before the command is missing"],
    [["lock", "run", "x", ...token, "make", "--all"], "the -- before the command is missing"],
    [["lock", "run", "x", "y", ...token, "--", "ls"], '"y": not a flag'],
    [["lock", "run", "x", "y:z", ...token, "--", "ls"], "argument 3: not a flag"],
    [["lock", "run", "x", ...token, "--"], "the command after -- is missing"],
    [["lock", "run", "x", ...token, "--ttl=2h", "--", "ls"], "--ttl: expected at most 1h"],
    [["lock", "run", "x", ...token, "--ttl=0s", "--", "ls"], "--ttl: expected a duration"],
    [["lock", "run", "x", ...token, "--wait=1s", "--", "ls"], "--wait: unknown flag"],
    [["lock", "run", "x", ...token, "--server=ftp://x", "--", "ls"], "--server (SESSIOND_SERVER)"],
  ])("%j is refused", async (argv, expected) => {
    const outcome = await run(argv);
    expect(outcome).toMatchObject({ code: 2, stdout: "", lockRuns: [] });
    expect(outcome.stderr).toContain(expected);
  });
});

describe("rate-limit", () => {
  const token = ["--token", "access.token.signature"];

  test("checks and resets", async () => {
    const check = ["rate-limit", "check", "login", "203.0.113.7", "--cost", "3", ...token];
    const reset = ["rate-limit", "reset", "login", "-7", ...token];
    const calls = [await run(check), await run(reset)].flatMap((each) => each.rateLimitCalls);
    expect(calls).toMatchObject([
      { action: "check", policy: "login", key: "203.0.113.7", cost: 3 },
      { action: "reset", policy: "login", key: "-7", cost: 1 },
    ]);
  });

  test.each([
    [["rate-limit"], "expected sessiond rate-limit check|reset"],
    [["rate-limit", "check"], "POLICY and KEY are missing: sessiond rate-limit check|reset"],
    [["rate-limit", "check", "login"], "the KEY after POLICY is missing"],
    [["rate-limit", "check", "login", ...token], "the KEY after POLICY is missing"],
    [["rate-limit", "check", "login", "a", "b", ...token], '"b": not a flag'],
    [["rate-limit", "check", "login", "a", "b:c", ...token], "argument 4: not a flag"],
    [["rate-limit", "drop", "login", "x"], "expected sessiond rate-limit check|reset"],
    [["rate-limit", "check", "login", "x", "--cost=0", ...token], "--cost: expected"],
    [["rate-limit", "reset", "login", "x", "--cost=1", ...token], "--cost: unknown flag"],
  ])("%j is refused", async (argv, expected) => {
    const outcome = await run(argv);
    expect(outcome).toMatchObject({ code: 2, stdout: "", rateLimitCalls: [] });
    expect(outcome.stderr).toContain(expected);
  });
});

describe("what is no command", () => {
  test.each([
    [["serv"], "unknown command serv (did you mean serve?); see: sessiond help"],
    [["help", "tokn"], "unknown command tokn (did you mean token?); see: sessiond help"],
    [["redis://:hunter2@localhost"], "unknown command; see: sessiond help"],
    [
      ["--store=redis://:hunter2@localhost"],
      "expected a command before flags: sessiond serve --store …",
    ],
  ])("%j is refused", async (argv, expected) => {
    expect(await run(argv)).toEqual({
      ...{ code: 2, stdout: "", served: [], resealed: [], lockRuns: [], rateLimitCalls: [] },
      stderr: `sessiond: ${expected}\n`,
    });
  });
});
