import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:tls";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { addSession, keyOf } from "../../testing/contract/sessions/fixtures.js";
import { freePort } from "../../testing/network/free-port.js";
import { TestAuthority } from "../../testing/network/test-authority.js";
import { startRedisCluster } from "../../testing/redis/redis-cluster.js";
import { RedisProcess } from "../../testing/redis/redis-process.js";
import { type RedisServer, startRedisServer } from "../../testing/redis/redis-server.js";
import { RedisSessionStore } from "../sessions/redis-session-store.js";
import { connectRedis, type RedisLocation, type RedisTls } from "./connect-redis.js";

const authority = new TestAuthority();
const other = new TestAuthority("Another authority");
const client = authority.issue({ name: "sessiond" });
const stranger = other.issue();
const ca = readFileSync(authority.ca);
const identity = { cert: readFileSync(client.cert), key: readFileSync(client.key) };
afterAll(() => {
  authority[Symbol.dispose]();
  other[Symbol.dispose]();
});

/** What makes `redis-server` speak TLS at a port, and ask for a certificate of the authority. */
function tlsArgs(port: number, { cert, key } = authority.issue()): readonly string[] {
  return [
    ...["--tls-port", `${port}`, "--tls-cert-file", cert, "--tls-key-file", key],
    ...["--tls-ca-cert-file", authority.ca, "--tls-auth-clients", "yes"],
  ];
}

/** Creates a session and reads it again. Throws the last error of the connection if there is none. */
async function useStore(location: RedisLocation, tls: RedisTls): Promise<void> {
  let lastError = new Error("no connection");
  const redis = connectRedis(
    location,
    (error) => {
      lastError = error;
    },
    tls,
  );
  const store = new RedisSessionStore({ redis });
  try {
    await once(redis, "ready", { signal: AbortSignal.timeout(1_000) }).catch(() => {
      throw lastError;
    });
    const session = await addSession(store);
    expect(await store.get(keyOf(session))).toMatchObject({ version: 1 });
  } finally {
    await store.close();
  }
}

describe("a Redis with TLS", () => {
  let redis: RedisServer;
  let port: number;
  const at = (host: string): RedisLocation => {
    return { kind: "redis", address: { host, port }, db: 0, tls: true };
  };
  beforeAll(async () => {
    port = await freePort();
    const named = authority.issue({ san: "DNS:localhost" });
    redis = await startRedisServer({ args: tlsArgs(port, named) });
  });
  afterAll(() => redis.stop());

  test("serves a store that trusts its authority and has a certificate", async () => {
    await useStore(at("localhost"), { ca, ...identity });
  });

  test.each([
    [
      "is of an unknown authority",
      "localhost",
      { ...identity },
      /self-signed certificate|unable to/,
    ],
    [
      "is another host's",
      "127.0.0.1",
      { ca, ...identity },
      /IP: 127.0.0.1 is not in the cert's list/,
    ],
    ["is asked for and missing", "localhost", { ca }, /certificate required|ECONNRESET/],
  ])("serves none if a certificate %s, and the error says so", async (_, host, tls, message) => {
    await expect(useStore(at(host), tls)).rejects.toThrow(message);
  });

  test.each([
    ["is another authority's", readFileSync(stranger.cert)],
    ["cannot be read", Buffer.from("no certificate")],
  ])("serves a store again whose certificate %s, once it was renewed in place", async (_, cert) => {
    const tls: RedisTls = { ca, cert, key: readFileSync(stranger.key) };
    const onError = vi.fn();
    const connection = connectRedis(at("localhost"), onError, tls);
    await vi.waitFor(() => expect(onError).toHaveBeenCalled(), { timeout: 5_000 });
    Object.assign(tls, identity);
    await once(connection, "ready", { signal: AbortSignal.timeout(5_000) });
    connection.disconnect();
  });
});

test("a Redis whose certificate has expired serves no store, and the error says so", async () => {
  const port = await freePort();
  const expired = authority.issue({ expires: true });
  await using _redis = await startRedisServer({ args: tlsArgs(port, expired) });
  const address = { host: "localhost", port };
  const used = useStore({ kind: "redis", address, db: 0, tls: true }, { ca, ...identity });
  await expect(used).rejects.toThrow("certificate has expired");
});

test("a host of many is told which of its names is meant", async () => {
  const { cert, key } = authority.issue();
  const names = new Set<string>();
  const server = createServer({
    ...{ cert: readFileSync(cert), key: readFileSync(key) },
    SNICallback: (name, done) => {
      names.add(name);
      done(null);
    },
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const address = { host: "localhost", port };
  const redis = connectRedis({ kind: "redis", address, db: 0, tls: true }, () => {}, { ca });
  await vi.waitFor(() => expect([...names]).toEqual(["localhost"]), { timeout: 5_000 });
  redis.disconnect();
  server.close();
});

test("a cluster is found by name, and each node proves the address that it announces", async () => {
  const port = await freePort();
  const start = (san: string) =>
    startRedisCluster({
      primaries: 1,
      replicasPerPrimary: 0,
      // Otherwise Redis 7.0 announces the port without TLS.
      args: [...tlsArgs(port, authority.issue({ san })), "--tls-cluster", "yes"],
    });
  const nodes = [{ host: "localhost", port }];
  const location: RedisLocation = { kind: "redis-cluster", nodes, tls: true };
  {
    await using _cluster = await start("DNS:localhost,IP:127.0.0.1");
    await useStore(location, { ca, ...identity });
  }
  await using _cluster = await start("DNS:localhost");
  await expect(useStore(location, { ca, ...identity })).rejects.toThrow(
    /is not in the cert's list/,
  );
});

test("sentinels are asked over TLS, and so is the primary that they name", async () => {
  const [port, sentinelPort] = [await freePort(), await freePort()];
  await using _redis = await startRedisServer({ args: tlsArgs(port) });
  const sentinel = await RedisProcess.start({
    port: await freePort(),
    args: ["--sentinel", ...tlsArgs(sentinelPort), "--tls-replication", "yes"],
    config: `sentinel monitor mymaster 127.0.0.1 ${port} 1`,
  });
  try {
    const sentinels = [{ host: "localhost", port: sentinelPort }];
    const location = { sentinels, masterName: "mymaster", db: 0, tls: true };
    await useStore({ ...location, kind: "redis-sentinel" }, { ca, ...identity });
  } finally {
    await sentinel.remove("SIGKILL");
  }
});
