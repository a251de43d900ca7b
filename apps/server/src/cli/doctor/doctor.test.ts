import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { Keyring } from "@sessiond/core";
import { TestAuthority } from "@sessiond/core/testing";
import { afterAll, expect, test } from "vitest";
import { faultsOf, outcomeOf } from "../../testing/command-outcome.js";
import { startTestServer } from "../../testing/test-server.js";
import { asOperator, Ground } from "./doctor.test.fixture.js";
import { doctorCommand } from "./doctor-command.js";
import { runDoctor } from "./run-doctor.js";

const authority = new TestAuthority();
afterAll(() => authority[Symbol.dispose]());

const doctor = doctorCommand(runDoctor);

test("doctor finds nothing on a server that is well set up, before its start", async () => {
  await using ground = await Ground.open(authority);
  expect(await ground.diagnose()).toEqual({ code: 0, found: [] });
});

test("doctor finds nothing beside a running server, also if that asks for certificates", async () => {
  await using ground = await Ground.open(authority);
  for (const tls of [undefined, certificates(ground)]) {
    const config = {
      tls: tls && { cert: tls.SESSIOND_TLS_CERT, key: tls.SESSIOND_TLS_KEY, ca: authority.ca },
    };
    await using server = await startTestServer({ store: ground.redis.url, config });
    Object.assign(ground.env, {
      SESSIOND_TLS_CERT: "",
      SESSIOND_TLS_KEY: "",
      ...tls,
      SESSIOND_GRPC_ADDRESS: server.grpcAddress,
      SESSIOND_HTTP_ADDRESS: new URL(server.httpUrl).host,
    });
    expect(await ground.diagnose()).toEqual({ code: 0, found: [] });
    const { stdout } = await outcomeOf(doctor, [], ground.env);
    expect(stdout.match(/is sessiond's/g)).toHaveLength(2);
  }
});

/** The files of the ground, before they are taken away. */
function certificates({ env }: Ground) {
  const { SESSIOND_TLS_CERT = "", SESSIOND_TLS_KEY = "" } = env;
  return { SESSIOND_TLS_CERT, SESSIOND_TLS_KEY };
}

test("doctor needs no permission to write in Redis", async () => {
  await using ground = await Ground.open(authority);
  const { redis, env } = ground;
  const rules = ["on", ">hunter2", "~*", "&*", "+@all", "-@write"];
  await asOperator(redis.url, (admin) => admin.call("ACL", "SETUSER", "doctor", ...rules));
  env["SESSIOND_STORE"] = `redis://doctor:hunter2@127.0.0.1:${redis.port}`;
  expect(await ground.diagnose()).toEqual({ code: 0, found: [] });
});

test("doctor reads a SQLite file, and leaves its folder as it was", async () => {
  await using ground = await Ground.open(authority);
  const store = join(ground.directory, "sessiond.db");
  ground.env["SESSIOND_STORE"] = `sqlite:${store}`;
  await ground.login(ground.keyringText);
  const look = async () => [await readdir(ground.directory), await readFile(store, "base64")];
  const before = await look();
  await ground.keyring(Keyring.generateKey("other"));
  const { found } = await ground.diagnose();
  expect(found).toMatchObject([{ check: "keys", problem: expect.stringContaining('"now"') }]);
  expect(await look()).toEqual(before);
});

test("a SQLite file of an older version is no fault: the next start brings it up to date", async () => {
  await using ground = await Ground.open(authority);
  const store = join(ground.directory, "sessiond.db");
  ground.env["SESSIOND_STORE"] = `sqlite:${store}`;
  await ground.login(ground.keyringText);
  const db = new DatabaseSync(store);
  db.exec("PRAGMA user_version = 1");
  db.close();
  expect(await ground.diagnose()).toEqual({ code: 0, found: [] });
});

test("people get a line for each check, and two for each finding", async () => {
  await using ground = await Ground.open(authority);
  await ground.startRedis("--maxmemory-policy", "allkeys-lru");
  const { code, stdout } = await outcomeOf(doctor, [], ground.env);
  expect(code).toBe(1);
  expect(stdout).toContain(`
fault    eviction      maxmemory-policy allkeys-lru
         Redis may drop sessions in silence: its maxmemory-policy is allkeys-lru.
           Set maxmemory-policy to noeviction, with CONFIG SET and in its configuration file.
ok       persistence   appendonly yes
`);
  expect(stdout).toMatch(/^ok {7}memory {8}.*, room for about \d+ more$/m);
  expect(stdout).toMatch(/\n1 check with a fault, no warning\n$/);
});

test("a secret in a flag is told, and not shown", async () => {
  await using ground = await Ground.open(authority);
  delete ground.env["SESSIOND_KEYRING_FILE"];
  const { code, found } = await ground.diagnose("--keyring", ground.keyringText);
  expect({ code, found }).toMatchObject({
    code: 0,
    found: [
      { check: "settings", severity: "warning", problem: expect.stringContaining("--keyring") },
    ],
  });
});

test("settings that are missing are not counted as given", async () => {
  const { stdout } = await outcomeOf(doctor, ["--store", "sqlite::memory:"], {});
  expect(stdout).toMatch(/^fault {4}settings {6}1 setting given, 2 faults$/m);
});

test.each([
  [["--jsn"], "--jsn: unknown flag (did you mean --json?)"],
  [["--store"], "--store: expected a value"],
  [["--json=yes"], "--json: expected true or false"],
])("%j is bad usage", async (args, expected) => {
  expect(await faultsOf(doctor, args)).toEqual([expected]);
});
