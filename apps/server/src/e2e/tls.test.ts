import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, renameSync, symlinkSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import tls, { TLSSocket } from "node:tls";
import { promisify } from "node:util";
import { type IssuedFiles, TestAuthority } from "@sessiond/core/testing";
import { afterAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { spawnSessiond } from "../testing/server-process.js";
import { startTestServer } from "../testing/test-server.js";
import {
  Load,
  presentedBy,
  readTls,
  secure,
  send,
  shakeHands,
  TLS_CLIENTS,
} from "../testing/tls-clients.js";

const authority = new TestAuthority();
afterAll(() => authority[Symbol.dispose]());
const { ca } = authority;
const trust = { ca: readFileSync(ca) };

let made = 0;
/** Files for one server, which the test may change. */
function ownFiles(issued = authority.issue()): IssuedFiles {
  const directory = join(authority.directory, `server-${made++}`);
  mkdirSync(directory);
  const files = { cert: join(directory, "tls.crt"), key: join(directory, "tls.key") };
  copyFileSync(issued.cert, files.cert);
  copyFileSync(issued.key, files.key);
  return files;
}

function serialOf(path: string): string {
  return new X509Certificate(readFileSync(path)).serialNumber;
}

/** Replaces files as most tools do: each at once, one after the other. */
function replace(files: IssuedFiles, by: IssuedFiles): void {
  for (const name of ["cert", "key"] as const) {
    copyFileSync(by[name], `${files[name]}.new`);
    renameSync(`${files[name]}.new`, files[name]);
  }
}

const SOON = { timeout: 10_000, interval: 50 };

describe("a server that asks for client certificates", () => {
  const client = authority.issue({ name: "shop", san: "URI:spiffe://example/shop" });
  const other = new TestAuthority("Another authority");
  afterAll(() => other[Symbol.dispose]());

  test.each(Object.entries(TLS_CLIENTS))("serves %s with one only", async (_, open) => {
    await using server = await startTestServer({ config: { tls: { ...ownFiles(), ca } } });
    using stranger = open(server, readTls({ ca }));
    await expect(stranger.call()).rejects.toThrow();
    using impostor = open(server, readTls({ ca, ...other.issue() }));
    await expect(impostor.call()).rejects.toThrow();
    expect(server.logs.filter(({ msg }) => msg === "call")).toEqual([]);

    using known = open(server, readTls({ ca, ...client }));
    await known.call();
    expect(server.logs.filter(({ msg }) => msg === "call")).toMatchObject([
      { code: "ok", client_cert: { subject: "CN=shop", san: "URI:spiffe://example/shop" } },
    ]);
  });

  test.each(["the SDK over gRPC", "the SDK over gRPC on the HTTP port"])(
    "reads it once for a connection of %s, however many calls there are",
    async (name) => {
      await using server = await startTestServer({ config: { tls: { ...ownFiles(), ca } } });
      const reads = vi.spyOn(TLSSocket.prototype, "getPeerCertificate");
      onTestFinished(() => reads.mockRestore());
      using caller = TLS_CLIENTS[name]?.(server, readTls({ ca, ...client }));
      for (let i = 0; i < 10; i++) await caller?.call();
      // Once by the server, and once by grpc-js for the client.
      expect(reads.mock.calls.filter(([detailed]) => !detailed)).toHaveLength(2);
    },
  );

  test("serves curl with one only", async () => {
    await using server = await startTestServer({ config: { tls: { ...ownFiles(), ca } } });
    const url = `${secure(server.httpUrl)}/healthz`;
    const curl = (...args: readonly string[]) =>
      promisify(execFile)("curl", ["-sS", "--cacert", ca, ...args, url]);
    await expect(curl()).rejects.toThrow(/curl: \(\d+\)/);
    const { stdout } = await curl("--cert", client.cert, "--key", client.key);
    expect(stdout).toBe("ok\n");
  });

  test("serves the commands that call a server with one", async () => {
    await using server = await startTestServer({ config: { tls: { ...ownFiles(), ca } } });
    const check = ["rate-limit", "check", "login", "ann", "--token", server.accessToken];
    const flags = ["--server", `https://${server.grpcAddress}`, "--server-ca", ca];
    await using stranger = spawnSessiond([...check, ...flags]);
    expect(await stranger.ended).toBe(69);
    const env = { SESSIOND_CLIENT_CERT: client.cert, SESSIOND_CLIENT_KEY: client.key };
    await using known = spawnSessiond([...check, ...flags], { env });
    expect(await known.ended).toBe(0);
    expect(known.stdout).toContain("allowed");
  });

  test("serves metrics and probes at their own address without one, over TLS", async () => {
    const metricsAddress = { host: "127.0.0.1", port: 0 };
    const config = { metricsAddress, tls: { ...ownFiles(), ca } };
    await using server = await startTestServer({ config });
    const listening = server.logs.find(({ msg }) => msg === "listening");
    const url = `https://${listening?.["metrics_address"]}`;
    expect(await send(`${url}/healthz`, trust)).toBe("ok\n");
    expect(JSON.parse(await send(`${url}/readyz`, trust))).toMatchObject({ status: "ready" });
    const notAfterS =
      new X509Certificate(readFileSync(config.tls.cert)).validToDate.getTime() / 1000;
    expect(await send(`${url}/metrics`, trust)).toContain(
      `\nsessiond_tls_certificate_not_after_timestamp_seconds ${notAfterS}\n`,
    );
  });
});

describe("a certificate that is renewed", () => {
  test("under load is presented to new connections, and no call fails", async () => {
    const files = ownFiles();
    await using server = await startTestServer({ config: { tls: { ...files, ca } } });
    const tls = readTls({ ca, ...authority.issue() });
    const callers = Object.values(TLS_CLIENTS).map((open) => open(server, tls));
    const load = new Load(callers);
    for (let round = 0; round < 3; round++) {
      const next = authority.issue();
      replace(files, next);
      for (const url of [server.grpcUrl, server.httpUrl]) {
        await vi.waitFor(
          async () => expect(await presentedBy(url, tls)).toBe(serialOf(next.cert)),
          SOON,
        );
      }
      // The connections from before go on.
      const before = load.count;
      await vi.waitFor(() => expect(load.count).toBeGreaterThan(before + 50), SOON);
    }
    await load.stop();
    for (const caller of callers) caller[Symbol.dispose]();
    expect(load.failures).toEqual([]);
    expect(server.logs.filter(({ msg }) => String(msg).includes("renewed"))).toHaveLength(3);
  });

  test("by a swap of Kubernetes' symbolic link is presented", async () => {
    const volume = join(authority.directory, "volume");
    mkdirSync(volume);
    const mount = (version: string) => {
      const issued = ownFiles();
      symlinkSync(join(issued.cert, ".."), join(volume, version));
      renameSync(join(volume, version), join(volume, "..data"));
      return serialOf(issued.cert);
    };
    const first = mount("1");
    const tls = { cert: join(volume, "tls.crt"), key: join(volume, "tls.key") };
    symlinkSync("..data/tls.crt", tls.cert);
    symlinkSync("..data/tls.key", tls.key);
    await using server = await startTestServer({ config: { tls } });
    expect(await presentedBy(server.grpcUrl, trust)).toBe(first);
    const second = mount("2");
    await vi.waitFor(
      async () => expect(await presentedBy(server.grpcUrl, trust)).toBe(second),
      SOON,
    );
    expect(await presentedBy(server.httpUrl, trust)).toBe(second);
  });

  test("and has expired or is another's is refused, and the old one stays until a good one comes", async () => {
    const files = ownFiles();
    await using server = await startTestServer({ config: { tls: files } });
    const old = serialOf(files.cert);
    const refusals = () => server.logs.filter(({ msg }) => String(msg).includes("are refused"));
    const bad = [
      [authority.issue({ expires: true }), /^it has expired on .*: CN=localhost$/],
      [{ ...authority.issue(), key: authority.issue().key }, /^expected the key of the first/],
    ] as const;
    for (const [i, [issued, message]] of bad.entries()) {
      replace(files, issued);
      await vi.waitFor(() => expect(refusals()).toHaveLength(i + 1), SOON);
      expect(refusals().at(-1)).toMatchObject({
        level: 50,
        error: expect.stringMatching(message),
        tls_serial_number: old,
      });
      for (const url of [server.grpcUrl, server.httpUrl]) {
        expect(await presentedBy(url, trust)).toBe(old);
      }
    }
    const good = authority.issue();
    replace(files, good);
    await vi.waitFor(
      async () => expect(await presentedBy(server.grpcUrl, trust)).toBe(serialOf(good.cert)),
      SOON,
    );
  });
});

describe("a port with TLS", () => {
  test.each(["grpcUrl", "httpUrl"] as const)("%s refuses TLS 1.1 and takes 1.2", async (port) => {
    // As with Node's flag --tls-min-v1.1 and an OpenSSL that allows old signatures.
    const { DEFAULT_MIN_VERSION, DEFAULT_CIPHERS } = tls;
    Object.assign(tls, { DEFAULT_MIN_VERSION: "TLSv1.1", DEFAULT_CIPHERS: "DEFAULT@SECLEVEL=0" });
    onTestFinished(() => void Object.assign(tls, { DEFAULT_MIN_VERSION, DEFAULT_CIPHERS }));
    await using server = await startTestServer({ config: { tls: ownFiles() } });
    const as = (version: "TLSv1.1" | "TLSv1.2") => ({
      ...trust,
      ...{ minVersion: version, maxVersion: version, ALPNProtocols: ["h2"] },
    });
    await expect(shakeHands(server[port], as("TLSv1.1"))).rejects.toThrow(/version/);
    (await shakeHands(server[port], as("TLSv1.2"))).destroy();
  });

  test.each([
    ["grpcUrl", ["h2"], "h2"],
    ["grpcUrl", ["http/1.1", "h2"], "h2"],
    ["httpUrl", ["http/1.1", "h2"], "h2"],
    ["httpUrl", ["http/1.1"], "http/1.1"],
    ["httpUrl", undefined, false],
  ] as const)("%s answers the offer %j with %s", async (port, offer, expected) => {
    await using server = await startTestServer({ config: { tls: ownFiles() } });
    const options = { ...trust, ...(offer && { ALPNProtocols: [...offer] }) };
    const socket = await shakeHands(server[port], options);
    expect(socket.alpnProtocol).toBe(expected);
    socket.destroy();
  });

  test.each(["the SDK over gRPC", "the SDK over Connect"])(
    "whose authority %s does not know is not called, and the error names the option",
    async (name) => {
      await using server = await startTestServer({ config: { tls: ownFiles() } });
      using caller = TLS_CLIENTS[name]?.(server, {});
      await expect(caller?.call()).rejects.toThrow(
        /no authority that this client trusts.*`tls\.ca`/,
      );
    },
  );

  test("does not wait for handshakes when it stops", async () => {
    await using server = await startTestServer({ config: { tls: ownFiles() } });
    const sockets = [server.grpcUrl, server.httpUrl].map((url) =>
      connect(Number(new URL(url).port), "127.0.0.1").on("error", () => {}),
    );
    await vi.waitFor(() => expect(sockets.every(({ pending }) => !pending)).toBe(true));
    await new Promise((resolve) => setTimeout(resolve, 100));
    const startMs = performance.now();
    await server.stop();
    expect(performance.now() - startMs).toBeLessThan(3_000);
    for (const socket of sockets) socket.destroy();
  });
});
