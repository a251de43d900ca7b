import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Keyring } from "@sessiond/core";
import {
  mountSmallDisk,
  smallDiskObstacle,
  startRedisCluster,
  startTcpFaultProxy,
  TestAuthority,
} from "@sessiond/core/testing";
import { afterAll, expect, test } from "vitest";
import { startTestServer } from "../../testing/test-server.js";
import { within } from "../../testing/within.js";
import { asOperator, Ground, WELL_SET } from "./doctor.test.fixture.js";

/** More than any fault may take that is waited for. */
const LIMIT_MS = 20_000;
const MIB = 1024 * 1024;

const authority = new TestAuthority();
afterAll(() => authority[Symbol.dispose]());

/** What is planted, and the one finding that is expected. */
interface Planted {
  readonly check: string;
  readonly severity?: "warning";
  readonly problem: RegExp;
  readonly plant: (ground: Ground) => Promise<unknown>;
}

const set = (variables: Readonly<Record<string, string>>) => async (ground: Ground) =>
  Object.assign(ground.env, variables);

const SETTINGS: Record<string, Planted> = {
  "a setting with a bad value": {
    check: "settings",
    problem: /^SESSIOND_IDLE_TIMEOUT .*expected a duration.*got "soon"/,
    plant: set({ SESSIOND_IDLE_TIMEOUT: "soon" }),
  },
  "a misspelled variable": {
    check: "settings",
    problem: /^SESSIOND_STROE: unknown variable \(did you mean SESSIOND_STORE\?\)/,
    plant: set({ SESSIOND_STROE: "redis://:hunter2@host" }),
  },
  "a keyring that every user can read": {
    check: "files",
    problem: /^Every user of this machine may read .*keyring \(mode 0644\)/,
    plant: (ground) => ground.keyring(ground.keyringText, { mode: 0o644 }),
  },
  "an auth file that every user can change": {
    check: "files",
    problem: /^Every user of this machine may change .*auth\.json \(mode 0666\)/,
    plant: (ground) => ground.auth({}, 0o666),
  },
  "a port that another program has": {
    check: "ports",
    problem: /^Another program has 127\.0\.0\.1:\d+, and does not answer as sessiond/,
    plant: async ({ env, opened }) => {
      const server = createServer().listen(0, "127.0.0.1");
      await once(server, "listening");
      opened.defer(() => void server.close());
      const address = server.address() as { readonly port: number };
      env["SESSIOND_HTTP_ADDRESS"] = `127.0.0.1:${address.port}`;
    },
  },
  "an address of another machine": {
    check: "ports",
    problem: /^The server cannot listen on 192\.0\.2\.1:8081 \(EADDRNOTAVAIL\)/,
    plant: set({ SESSIOND_METRICS_ADDRESS: "192.0.2.1:8081" }),
  },
  "a server that runs without its store": {
    check: "ports",
    severity: "warning",
    problem: /^The server at 127\.0\.0\.1:\d+ runs, and is not ready/,
    plant: async ({ env, opened }) => {
      const server = opened.use(await startTestServer({ store: "redis://127.0.0.1:1" }));
      env["SESSIOND_HTTP_ADDRESS"] = new URL(server.httpUrl).host;
      delete env["SESSIOND_TLS_CERT"];
      delete env["SESSIOND_TLS_KEY"];
    },
  },
};

const CERTIFICATES: Record<string, Planted> = {
  "a certificate that has expired while a server runs": {
    check: "certificates",
    problem: /^The server cannot use .*cert\.pem: it has expired on /,
    plant: async ({ env, opened }) => {
      const { SESSIOND_TLS_CERT: oldCert = "", SESSIOND_TLS_KEY: oldKey = "" } = env;
      const config = { tls: { cert: oldCert, key: oldKey } };
      const { grpcAddress } = opened.use(await startTestServer({ config }));
      env["SESSIOND_GRPC_ADDRESS"] = grpcAddress;
      const { cert, key } = authority.issue({ expires: true });
      Object.assign(env, { SESSIOND_TLS_CERT: cert, SESSIOND_TLS_KEY: key });
      await sleep(1_100);
    },
  },
  "a certificate that soon expires": {
    check: "certificates",
    severity: "warning",
    problem: /^The certificate in .*cert\.pem expires in 1d23h/,
    plant: async ({ env }) => {
      const { cert, key } = authority.issue();
      Object.assign(env, { SESSIOND_TLS_CERT: cert, SESSIOND_TLS_KEY: key });
    },
  },
  "a certificate without the host's name": {
    check: "certificates",
    severity: "warning",
    problem: /^The certificate does not name sessiond\.internal,/,
    plant: set({ SESSIOND_SERVER: "https://sessiond.internal:50051" }),
  },
  "another certificate's key": {
    check: "certificates",
    problem: /^The server cannot use .*other\.pem: expected the key of the first certificate/,
    plant: async (ground) => {
      ground.env["SESSIOND_TLS_KEY"] = await ground.file("other.pem", "");
      await copyFile(authority.issue().key, ground.env["SESSIOND_TLS_KEY"]);
    },
  },
};

const STORES: Record<string, Planted> = {
  "a Redis that is down": {
    check: "store",
    problem: /^The store cannot be used: connect ECONNREFUSED 127\.0\.0\.1:1/,
    plant: set({ SESSIOND_STORE: "redis://127.0.0.1:1" }),
  },
  "a Redis that does not answer": {
    check: "store",
    problem: /^The store cannot be used: /,
    plant: async ({ redis, opened }) => {
      redis.pause();
      opened.defer(() => redis.resume());
    },
  },
  "a wrong password of Redis": {
    check: "store",
    problem: /^The store cannot be used: WRONGPASS/,
    plant: async (ground) => {
      const { port } = await ground.startRedis("--requirepass", "right");
      ground.env["SESSIOND_STORE"] = `redis://:hunter2@127.0.0.1:${port}`;
    },
  },
  "a user of Redis who may not read sessions": {
    check: "store",
    problem: /^The store answers, but its sessions cannot be read: .*NOPERM/,
    plant: async ({ env, redis }) => {
      await asOperator(redis.url, (admin) =>
        admin.call("ACL", "SETUSER", "app", "on", ">hunter2", "~other:*", "+@all"),
      );
      env["SESSIOND_STORE"] = `redis://app:hunter2@127.0.0.1:${redis.port}`;
    },
  },
  "a file that is no store": {
    check: "store",
    problem: /^The store cannot be used: .*cannot open .*garbage\.db: /,
    plant: async (ground) => {
      ground.env["SESSIOND_STORE"] =
        `sqlite:${await ground.file("garbage.db", "sessions".repeat(1_000))}`;
    },
  },
  "a store in memory": {
    check: "store",
    severity: "warning",
    problem: /^The store is in memory/,
    plant: set({ SESSIOND_STORE: "sqlite::memory:" }),
  },
  "a Redis that is too old": {
    check: "version",
    problem: /^Redis is version 6\.\d+\.\d+, which lacks commands/,
    plant: (ground) =>
      ground.rewriteAnswers((text) => text.replace(/redis_version:\d/, "redis_version:6")),
  },
  "a Redis that evicts": {
    check: "eviction",
    problem: /^Redis may drop sessions in silence: its maxmemory-policy is allkeys-lru/,
    plant: (ground) => ground.startRedis("--maxmemory-policy", "allkeys-lru"),
  },
  "one primary of a cluster that evicts": {
    check: "eviction",
    problem: /^127\.0\.0\.1:\d+ may drop sessions in silence: .* allkeys-lru/,
    plant: async ({ env, opened }) => {
      const args = [...WELL_SET, "--min-replicas-to-write", "1"];
      const cluster = opened.use(await startRedisCluster({ args }));
      env["SESSIOND_STORE"] = cluster.url;
      const url = `redis://127.0.0.1:${cluster.nodes[0]?.port}`;
      await asOperator(url, (redis) => redis.config("SET", "maxmemory-policy", "allkeys-lru"));
    },
  },
  "a Redis without an append-only file": {
    check: "persistence",
    severity: "warning",
    problem: /^Redis writes no append-only file/,
    plant: (ground) => ground.startRedis("--appendonly", "no"),
  },
  "a Redis that cannot save": {
    check: "persistence",
    problem: /^Redis cannot write to its disk/,
    plant: async ({ redis }) =>
      asOperator(redis.url, async (admin) => {
        const [, directory = ""] = (await admin.config("GET", "dir")) as string[];
        // A file cannot take the place of a folder that is not empty.
        mkdirSync(join(directory, "dump.rdb", "x"), { recursive: true });
        await admin.bgsave();
        const isTold = async () => (await admin.info("persistence")).includes("bgsave_status:err");
        await expect.poll(isTold, { timeout: 10_000 }).toBe(true);
      }),
  },
  "replicas that are asked for and missing": {
    check: "replicas",
    problem: /^Redis has no replica, so with SESSIOND_DURABILITY=replicated every change fails/,
    plant: set({ SESSIOND_DURABILITY: "replicated" }),
  },
  "a replica in place of its primary": {
    check: "replicas",
    problem: /^Redis is a replica, and refuses writes/,
    plant: (ground) => replicate(ground, "replica"),
  },
  "a primary that takes changes without its replicas": {
    check: "replicas",
    severity: "warning",
    problem: /^Redis takes changes also while it is cut off from its replicas/,
    plant: (ground) => replicate(ground, "primary"),
  },
  "a Redis without a limit of memory": {
    check: "memory",
    severity: "warning",
    problem: /^Redis has no limit of memory/,
    plant: (ground) => ground.startRedis("--maxmemory", "0"),
  },
  "a Redis that is almost full": {
    check: "memory",
    severity: "warning",
    problem: /^Redis uses .* of its .* of memory, and refuses new sessions when it is full/,
    plant: ({ redis }) => limitMemory(redis.url, 1.15),
  },
  "a Redis that is full": {
    check: "memory",
    problem: /^Redis uses .* of its .* of memory, and refuses new sessions\./,
    plant: ({ redis }) => limitMemory(redis.url, 0.5),
  },
  "a Redis that is far away": {
    check: "latency",
    severity: "warning",
    problem: /^Redis needs at least \d+ ms to answer/,
    plant: async ({ redis, env, opened }) => {
      const proxy = opened.use(await startTcpFaultProxy({ host: "127.0.0.1", port: redis.port }));
      proxy.delay(15);
      env["SESSIOND_STORE"] = `redis://127.0.0.1:${proxy.port}`;
    },
  },
  "a Redis whose clock is behind": {
    check: "clocks",
    severity: "warning",
    problem: /^The clock of Redis is (16m3\d|16m4\d).* behind this machine's/,
    plant: (ground) =>
      ground.rewriteAnswers((text) =>
        text.replace(/^(\*2\r\n\$10\r\n)(\d{10})/, (_, head, time) => `${head}${time - 1_000}`),
      ),
  },
};

const KEYS: Record<string, Planted> = {
  "a key that sessions need and the keyring lacks": {
    check: "keys",
    problem: /^The keyring lacks the key "now", and 1 session cannot be read without it/,
    plant: (ground) => ground.keyring(Keyring.generateKey("other")),
  },
  "another key of the same name": {
    check: "keys",
    problem: /^The records of 1 session are damaged, or sealed under another key of the name "now"/,
    plant: (ground) => ground.keyring(Keyring.generateKey("now")),
  },
  "a key that seals nothing": {
    check: "keys",
    severity: "warning",
    problem: /^No session is sealed under the key "old"/,
    plant: (ground) => ground.keyring(`${ground.keyringText},${Keyring.generateKey("old")}`),
  },
  "a key that is too old": {
    check: "keys",
    severity: "warning",
    problem: /^The key "now" has sealed sessions for at least 400d/,
    plant: (ground) => ground.keyring(ground.keyringText, { age: "400d" }),
  },
};

const ISSUERS: Record<string, Planted> = {
  "an issuer that is down": {
    check: "issuers",
    problem: /^No signing keys of the issuer http:\/\/127\.0\.0\.1:1: .*/,
    plant: (ground) => ground.auth({ issuer: "http://127.0.0.1:1" }),
  },
  "an issuer that does not answer": {
    check: "issuers",
    problem: /^No signing keys of the issuer .*: .*timeout/,
    plant: async ({ issuer }) => {
      issuer.respond = () => {};
    },
  },
  "an issuer that signs otherwise": {
    check: "issuers",
    problem: /publishes no key for RS256, EdDSA, so all of its tokens are refused/,
    plant: (ground) => ground.auth({ algorithms: ["RS256", "EdDSA"] }),
  },
  "an issuer whose clock is ahead": {
    check: "clocks",
    problem: /^The clock of the issuer http:.* is (59|1m).* ahead of this machine's/,
    plant: async ({ issuer }) => {
      issuer.respond = ({ url }, response) => {
        response.setHeader("date", new Date(Date.now() + 61_000).toUTCString());
        const document = { issuer: issuer.url, jwks_uri: issuer.jwksUrl };
        response.end(url === "/jwks" ? issuer.jwks : JSON.stringify(document));
      };
    },
  },
};

const DISKS: Record<string, Planted> = {
  "a full disk": {
    check: "disk",
    problem: /^The disk is full: there are .* free in /,
    plant: async ({ env, opened }) => {
      const disk = opened.use(await mountSmallDisk(4 * MIB));
      env["SESSIOND_STORE"] = `sqlite:${join(disk.path, "sessiond.db")}`;
    },
  },
  "a folder that cannot be written to": {
    check: "disk",
    problem: /^The server cannot write .*sessiond\.db: EROFS/,
    plant: async ({ env, opened }) => {
      const disk = opened.use(await mountSmallDisk(MIB));
      execFileSync("mount", ["-o", "remount,ro", disk.path]);
      env["SESSIOND_STORE"] = `sqlite:${join(disk.path, "sessiond.db")}`;
    },
  },
};

const ALWAYS = { ...SETTINGS, ...CERTIFICATES, ...STORES, ...KEYS, ...ISSUERS };

test.for(Object.entries(ALWAYS))("doctor names %s, and nothing else", expectFinding);
test.skipIf(smallDiskObstacle()).for(Object.entries(DISKS))(
  "doctor names %s, and nothing else",
  expectFinding,
);

async function expectFinding([, planted]: readonly [string, Planted]): Promise<void> {
  const { check, severity = "fault", problem, plant } = planted;
  await using ground = await Ground.open(authority);
  await plant(ground);
  const { code, found } = await within(LIMIT_MS, ground.diagnose());
  const remedy = expect.stringMatching(/^\S.*\.$|^Run: /);
  expect(found).toEqual([{ check, severity, problem: expect.stringMatching(problem), remedy }]);
  expect(code).toBe(severity === "fault" ? 1 : 0);
}

/** A primary and its replica. The store is one of them. */
async function replicate(ground: Ground, store: "primary" | "replica"): Promise<void> {
  const replicaOf = [
    "--replicaof",
    "127.0.0.1",
    `${ground.redis.port}`,
    "--repl-diskless-sync-delay",
    "0",
  ];
  const replica = await ground.startRedis(...replicaOf);
  const isLinked = () =>
    asOperator(replica.url, async (redis) =>
      (await redis.info("replication")).includes("master_link_status:up"),
    );
  await expect.poll(isLinked, { timeout: 15_000 }).toBe(true);
  if (store === "primary") ground.env["SESSIOND_STORE"] = ground.redis.url;
}

/** Gives Redis this many times the memory that it uses. */
function limitMemory(url: string, times: number): Promise<unknown> {
  return asOperator(url, async (redis) => {
    const used = Number(/^used_memory:(\d+)/m.exec(await redis.info("memory"))?.[1]);
    return redis.config("SET", "maxmemory", Math.round(used * times));
  });
}
