import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { copyFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect as connectHttp2 } from "node:http2";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Keyring } from "@sessiond/core";
import { TestAuthority } from "@sessiond/core/testing";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { SETTINGS, type SettingName } from "../config/settings.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import { holdKeys } from "../testing/held-issuer.js";
import {
  bearer,
  GRPC,
  JSON_OVER_HTTP,
  type Protocol,
  sessionClient,
} from "../testing/protocols.js";
import { spawnServer, spawnSessiond } from "../testing/server-process.js";
import type { TestIssuer } from "../testing/test-issuer.js";
import { startTestIssuer } from "../testing/test-server.js";
import { presentedBy } from "../testing/tls-clients.js";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sessiond-run-"));
});
afterAll(() => rm(directory, { recursive: true }));

/** The issuer's entry in an auth file. */
function entryOf({ url, jwksUrl }: TestIssuer) {
  return { issuer: url, audience: "sessiond", algorithms: ["ES256"], jwks_uri: jwksUrl };
}

/** An issuer that no server accepts so far. */
async function startOtherIssuer() {
  const issuer = await startTestIssuer();
  return { issuer, entry: entryOf(issuer), [Symbol.asyncDispose]: () => issuer.close() };
}

/** Starts an issuer and a server that accepts its tokens, set up as an operator would do it. */
async function start(settings: Readonly<Record<string, string>> = {}) {
  await using opened = new AsyncDisposableStack();
  const issuer = opened.adopt(await startTestIssuer(), (started) => started.close());
  const auth = entryOf(issuer);
  const file = join(directory, `auth-${new URL(issuer.url).port}.json`);
  await writeFile(file, JSON.stringify({ issuers: [auth] }));
  const keyring = Keyring.generateKey("test");
  const keyringFile = `${file}.keyring`;
  await writeFile(keyringFile, `${keyring}\n`);
  const env = {
    SESSIOND_AUTH: file,
    SESSIOND_KEYRING_FILE: keyringFile,
    SESSIOND_STORE: "sqlite::memory:",
    ...settings,
  };
  const server = opened.use(await spawnServer({ env }));
  const token = await issuer.sign({ claims: { scope: KNOWN_PERMISSIONS.join(" ") } });
  const client = (protocol: Protocol = GRPC) => sessionClient(protocol.open(server), bearer(token));
  /** Makes a call that goes on until `release`. */
  const hold = async (protocol?: Protocol) => {
    const { asked, release } = holdKeys(issuer);
    const call = client(protocol).createSession({ userId: "ann" });
    const outcome = call.then(
      ({ session }) => session?.userId,
      () => "failed",
    );
    await asked();
    return { outcome, release };
  };
  const closing = opened.move();
  const files = { authFile: file, keyring, keyringFile };
  return {
    server,
    issuer,
    ...files,
    client,
    hold,
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}

describe.concurrent("a server process", () => {
  test.for([
    ["SIGTERM", GRPC],
    ["SIGINT", JSON_OVER_HTTP],
  ] as const)(
    "lets a call under way finish on %s, and then exits with 0",
    async ([signal, protocol]) => {
      await using started = await start();
      const { server } = started;
      const call = await started.hold(protocol);
      server.kill(signal);
      expect(await server.logged("stopping")).toMatchObject({ level: "info" });
      call.release();
      expect(await call.outcome).toBe("ann");
      expect(await server.ended).toBe(0);
      const messages = server.logs.map(({ msg }) => msg);
      expect(messages.filter((message) => message === "call")).toHaveLength(1);
      expect(messages.indexOf("stopping")).toBeLessThan(messages.indexOf("call"));
      expect(messages.at(-1)).toBe("stopped");
      expect(server.stderr).toBe("");
    },
  );

  test("ends at once on a second signal, of whichever kind", async () => {
    await using started = await start();
    const { server } = started;
    const call = await started.hold();
    server.kill("SIGTERM");
    await server.logged("stopping");
    server.kill("SIGINT");
    expect(await server.ended).toBe(1);
    expect(await call.outcome).toBe("failed");
  });

  test.for([
    [
      "--grpc-address",
      "cannot listen on TAKEN: the address is in use (EADDRINUSE); --grpc-address takes another\n",
    ],
    [
      "--http-address",
      "cannot listen on TAKEN: the address is in use (EADDRINUSE); --http-address takes another\n",
    ],
    ["--store", "the session store is unavailable: cannot open"],
  ] as const)("says that it cannot use its %s, and exits with 1", async ([flag, message]) => {
    const listener = createServer().listen(0, "127.0.0.1");
    await once(listener, "listening");
    const taken = `127.0.0.1:${(listener.address() as AddressInfo).port}`;
    const flags = {
      "--data-dir": directory,
      "--grpc-address": "127.0.0.1:0",
      "--http-address": "127.0.0.1:0",
      [flag]: flag === "--store" ? `sqlite:${directory}` : taken,
    };
    await using server = spawnSessiond(["serve", "--dev", ...Object.entries(flags).flat()]);
    expect(await server.ended).toBe(1);
    expect(server.stderr).toContain(`sessiond: ${message.replace("TAKEN", taken)}`);
    // The cause is the only line: no stack trace, no log, no welcome to a server that does not run.
    expect(server.stderr).not.toMatch(/\n +at /);
    expect(server.stdout).toBe("");
    listener.close();
  });

  test("without a keyring and an auth file, says how to get both, and exits with 2", async () => {
    await using server = spawnSessiond(["serve", "--data-dir", directory]);
    expect(await server.ended).toBe(2);
    const [keyring = "", auth = "", ...others] = server.stderr.split("\n");
    expect(keyring).toMatch(
      /^sessiond: SESSIOND_KEYRING .*required without --dev.*sessiond keygen/,
    );
    expect(auth).toMatch(
      /^sessiond: SESSIOND_AUTH .*required without --dev.*docs\/configuration\.md/,
    );
    expect([others, server.stdout]).toEqual([[""], ""]);
  });

  test.for([
    ["", "it made its keyring and its key of access tokens itself", /TOKEN=/],
    ["SESSIOND_KEYRING", "it made its key of access tokens itself", /TOKEN=/],
    ["SESSIOND_AUTH", "it made its keyring itself", /^(?!.*TOKEN=)/s],
  ] as const)("with --dev and %s, says what it made itself", async ([given, made, welcome]) => {
    const auth = join(directory, "auth-dev.json");
    const issuer = { issuer: "https://id.example.com", audience: "a", algorithms: ["RS256"] };
    await writeFile(auth, JSON.stringify({ issuers: [issuer] }));
    const value = { "": "", SESSIOND_KEYRING: Keyring.generateKey(), SESSIOND_AUTH: auth }[given];
    const flags = ["--dev", "--data-dir", join(directory, `dev-${given}`)];
    await using server = await spawnServer({ flags, env: given === "" ? {} : { [given]: value } });
    server.kill("SIGTERM");
    expect(await server.ended).toBe(0);
    expect(server.logs[0]).toMatchObject({ msg: "listening", development: made });
    expect(server.stdout).toMatch(welcome);
  });

  test("says in its first line the whole configuration, and no secret", async () => {
    await using started = await start();
    const { server, issuer, keyring } = started;
    const [first] = server.logs;
    expect(first).toMatchObject({
      ...{ msg: "listening", level: "info", ready: true, version: expect.any(String) },
      ...{ store: "sqlite::memory:", idle_timeout: "30m", lifetime: "1d", max_lifetime: "365d" },
      ...{ max_sessions_per_user: 10, limit_policy: "evict_oldest", on_token_reuse: "record" },
      ...{ retention: "10m", rate_limits: "login: 10 per 15m", key_ids: ["test"] },
      issuers: [{ issuer: issuer.url, keys: expect.any(String) }],
      ...{ reflection: true, log_level: "info" },
    });
    expect(JSON.stringify(first)).not.toContain(keyring.slice("test:".length));
  });

  test("has a place in its first line for every setting that is not a secret", async () => {
    using authority = new TestAuthority();
    const { cert, key } = authority.issue();
    const { ca } = authority;
    await using started = await start({
      ...{ SESSIOND_TLS_CERT: cert, SESSIOND_TLS_KEY: key, SESSIOND_TLS_CLIENT_CA: ca },
      ...{ SESSIOND_REDIS_CERT: cert, SESSIOND_REDIS_KEY: key, SESSIOND_REDIS_CA: ca },
      ...{
        SESSIOND_STORE: "rediss://:canary@127.0.0.1:1",
        SESSIOND_METRICS_ADDRESS: "127.0.0.1:0",
        SESSIOND_MAX_CALLS_PER_CALLER: "100",
      },
    });
    const [first = {}] = started.server.logs;
    const places: Partial<Record<SettingName, string>> = {
      ...{ auth: "issuers", keyring: "key_ids" },
      ...{ tlsCert: "tls_certificate", tlsClientCa: "tls_client_certificates" },
      ...{ consoleClientId: "console", consoleScope: "console", consoleLoginParameters: "console" },
    };
    const leftOut: Partial<Record<SettingName, string>> = {
      dev: "only a development server has a line of it, development",
      allowPlaintext: "without tls_certificate, the ports are in plaintext",
      tlsKey: "the certificate is the one of the key",
      redisKey: "the certificate is the one of the key",
    };
    const names = Object.keys(SETTINGS) as SettingName[];
    const placeOf = (name: SettingName) =>
      places[name] ?? name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    const missing = names.filter((name) => !(name in leftOut) && !(placeOf(name) in first));
    expect(missing).toEqual([]);
    expect(JSON.stringify(first)).not.toContain("canary");
  });

  test("takes a new auth file and keyring on SIGHUP, and says what changed", async () => {
    await using started = await start();
    const { server, issuer } = started;
    await using other = await startOtherIssuer();
    const token = await other.issuer.sign({ claims: { roles: ["support"] } });
    const client = sessionClient(GRPC.open(server), bearer(token));
    await expect(client.countSessions({})).rejects.toThrow("unknown issuer");
    const { session } = await started.client().createSession({ userId: "ann", displayName: "Ann" });

    await writeFile(started.keyringFile, `${Keyring.generateKey("new")},${started.keyring}\n`);
    await writeFile(
      started.authFile,
      JSON.stringify({ issuers: [other.entry], roles: { support: ["sessions:read"] } }),
    );
    server.kill("SIGHUP");
    expect(await server.logged("reloaded keyring and auth file")).toMatchObject({
      ...{ active_key: "new", keys_added: ["new"] },
      ...{ issuers_added: [other.issuer.url], issuers_removed: [issuer.url] },
      roles_added: ["support"],
    });
    expect(await client.getSession({ sessionId: session?.id ?? "" })).toMatchObject({
      session: { displayName: "Ann" },
    });
    await expect(started.client().countSessions({})).rejects.toThrow("unknown issuer");
    server.kill("SIGHUP");
    await server.logged("reloaded keyring and auth file: no change");
    expect(server.stdout).not.toContain(started.keyring.slice("test:".length));
  });

  test("keeps what it has on SIGHUP if one of the files is broken, and names the field", async () => {
    await using started = await start();
    const { server } = started;
    await using other = await startOtherIssuer();
    const { session } = await started.client().createSession({ userId: "ann", displayName: "Ann" });
    await writeFile(started.keyringFile, "test:hunter2");
    await writeFile(
      started.authFile,
      JSON.stringify({ issuers: [{ ...other.entry, audience: 7 }] }),
    );
    server.kill("SIGHUP");
    const refusal = "cannot reload keyring and auth file, so the old ones stay in use";
    expect(await server.logged(refusal)).toMatchObject({
      level: "error",
      faults: [
        expect.stringMatching(/^SESSIOND_KEYRING_FILE: .* expected 32 bytes/),
        "SESSIOND_AUTH (--auth): issuers[0].audience: expected text or a list of texts",
      ],
    });
    // One good file is not taken without the other.
    await writeFile(started.authFile, JSON.stringify({ issuers: [other.entry] }));
    server.kill("SIGHUP");
    await vi.waitUntil(() => server.logs.filter(({ msg }) => msg === refusal).length === 2, 10_000);
    expect(await started.client().getSession({ sessionId: session?.id ?? "" })).toMatchObject({
      session: { displayName: "Ann" },
    });
    expect(server.stdout).not.toContain("hunter2");
  });

  test("presents a new certificate on SIGHUP, and with a faulty auth file, too", async () => {
    using authority = new TestAuthority();
    const { cert, key } = authority.issue();
    await using started = await start({ SESSIOND_TLS_CERT: cert, SESSIOND_TLS_KEY: key });
    const next = authority.issue();
    await writeFile(started.authFile, "{");
    await copyFile(next.cert, cert);
    await copyFile(next.key, key);
    started.server.kill("SIGHUP");
    const { serialNumber } = new X509Certificate(await readFile(next.cert));
    const ca = await readFile(authority.ca);
    const timeOf = async (message: string) => {
      const { time } = await started.server.logged(message);
      return Date.parse(String(time));
    };
    const heardMs = await timeOf(
      "cannot reload keyring and auth file, so the old ones stay in use",
    );
    const renewedMs = await timeOf("the TLS certificate has been renewed");
    // Without the signal, files are in use when they were the same for a second.
    expect(renewedMs - heardMs).toBeLessThan(900);
    expect(await presentedBy(started.server.grpcUrl, { ca })).toBe(serialNumber);
  });

  test("starts in spite of a SIGHUP meanwhile", async () => {
    // The start waits two seconds for a Redis that does not answer.
    const redis = createServer().listen(0, "127.0.0.1");
    await once(redis, "listening");
    const store = `redis://127.0.0.1:${(redis.address() as AddressInfo).port}`;
    const flags = ["--dev", "--store", store, "--data-dir", directory];
    const addresses = ["--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"];
    await using server = spawnSessiond(["serve", ...addresses, ...flags]);
    await once(redis, "connection");
    server.kill("SIGHUP");
    await server.logged("reloaded keyring and auth file: no change");
    expect(server.logs.map(({ msg }) => msg)).toContain("listening");
    redis.close();
  });

  test("never repeats a header that gRPC cannot carry, not even on stderr", async () => {
    await using started = await start();
    const { server } = started;
    const session = connectHttp2(server.grpcUrl);
    const call = session.request({
      ":method": "POST",
      ":path": "/sessiond.v1.SessionService/CountSessions",
      "content-type": "application/grpc",
      authorization: "Bearer canary-\u00ff",
    });
    call.end(Buffer.alloc(5)).resume();
    await once(call, "close");
    session.close();
    expect(await server.logged("call")).toMatchObject({ code: "unauthenticated" });
    server.kill("SIGTERM");
    expect(await server.ended).toBe(0);
    expect(server.stderr).toBe("");
    expect(server.stdout).not.toContain("canary");
  });

  test("logs JSON lines with the time, and prints no welcome if it has an auth file", async () => {
    await using started = await start();
    const { server } = started;
    await started.client().countSessions({});
    const call = await server.logged("call");
    expect(call["time"]).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    expect(call).not.toHaveProperty("hostname");
    for (const line of server.stdout.trimEnd().split("\n")) expect(JSON.parse(line)).toBeTruthy();
  });
});
