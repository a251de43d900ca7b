import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { decodeJwt, decodeProtectedHeader } from "jose";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { createAccessTokenVerifier } from "./access-token.js";
import {
  DEVELOPMENT_AUDIENCE,
  DEVELOPMENT_ISSUER,
  developmentAuthConfig,
  developmentKeyring,
  developmentSigningKeyPath,
  mintDevelopmentToken,
} from "./development-keys.js";

let parent = "";
let dataDir = "";

beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), "sessiond-data-"));
  dataDir = join(parent, "nested", ".sessiond");
});
afterEach(() => rm(parent, { recursive: true }));

const TOKEN = { permissions: ["sessions:read"], subject: "development", ttlMs: 60_000 };

async function modeOf(path: string): Promise<number> {
  return (await stat(path)).mode & 0o777;
}

test("each key is made when needed, in a file for its owner alone", async () => {
  const umask = process.umask(0);
  onTestFinished(() => void process.umask(umask));
  await developmentKeyring(dataDir);
  expect(await readdir(dataDir)).toEqual(["development-keyring"]);
  await developmentAuthConfig(dataDir);
  const files = await readdir(dataDir);
  expect(files).toEqual(["development-keyring", "development-signing-key.json"]);
  expect(await modeOf(dataDir)).toBe(0o700);
  for (const file of files) expect(await modeOf(join(dataDir, file))).toBe(0o600);
});

test("a token is accepted by servers that started before or after it, but not on other data", async () => {
  const before = createAccessTokenVerifier(await developmentAuthConfig(dataDir));
  const token = await mintDevelopmentToken({ ...TOKEN, dataDir });
  const after = createAccessTokenVerifier(await developmentAuthConfig(dataDir));
  const elsewhere = createAccessTokenVerifier(await developmentAuthConfig(join(parent, "other")));
  for (const verifier of [before, after]) {
    expect(await verifier.verify(token)).toEqual({
      issuer: DEVELOPMENT_ISSUER,
      subject: "development",
      namespace: "",
      permissions: new Set(["sessions:read"]),
    });
  }
  await expect(elsewhere.verify(token)).rejects.toMatchObject({ reason: "UNAUTHENTICATED" });
});

test("a token says what was asked for and expires when it should", async () => {
  let nowMs = Date.UTC(2026, 0, 1);
  const now = () => nowMs;
  const permissions = ["sessions:create", "sessions:read"];
  const token = await mintDevelopmentToken({ ...TOKEN, permissions, dataDir, now });
  expect(decodeProtectedHeader(token)).toEqual({
    alg: "ES256",
    typ: "at+jwt",
    kid: expect.any(String),
  });
  expect(decodeJwt(token)).toEqual({
    iss: DEVELOPMENT_ISSUER,
    aud: DEVELOPMENT_AUDIENCE,
    sub: "development",
    iat: nowMs / 1000,
    exp: nowMs / 1000 + 60,
    scope: "sessions:create sessions:read",
  });
  const verifier = createAccessTokenVerifier(await developmentAuthConfig(dataDir), { now });
  nowMs += 59_999;
  await expect(verifier.verify(token)).resolves.toBeDefined();
  nowMs += 1;
  await expect(verifier.verify(token)).rejects.toThrow("expired");
});

test("the keys that a server accepts do not contain the private key", async () => {
  const { issuers } = await developmentAuthConfig(dataDir);
  const { d } = JSON.parse(await readFile(developmentSigningKeyPath(dataDir), "utf8"));
  expect(d).toEqual(expect.any(String));
  expect(JSON.stringify(issuers)).not.toContain(d);
});

describe("if many make the keys at the same time, all get the same, also later", () => {
  test("in one process", async () => {
    const context = Buffer.from("context");
    const many = Array.from({ length: 20 });
    const keyrings = await Promise.all(many.map(() => developmentKeyring(dataDir)));
    keyrings.push(await developmentKeyring(dataDir));
    const sealed = keyrings.map((keyring) => keyring.seal(Buffer.from("data"), context));
    for (const keyring of keyrings) {
      for (const other of sealed) expect(() => keyring.unseal(other, context)).not.toThrow();
    }
    const configs = await Promise.all(many.map(() => developmentAuthConfig(dataDir)));
    expect(new Set(configs.map(({ issuers }) => JSON.stringify(issuers))).size).toBe(1);
    expect(await readdir(dataDir)).toHaveLength(2);
  });

  test("in several processes", async () => {
    // Without vitest, only built code runs.
    const module = new URL("../../dist/auth/development-keys.js", import.meta.url).href;
    const script = `
      const { developmentAuthConfig } = await import(${JSON.stringify(module)});
      const { issuers } = await developmentAuthConfig(${JSON.stringify(dataDir)});
      console.log(JSON.stringify(issuers));`;
    const run = () => promisify(execFile)(process.execPath, ["--input-type=module", "-e", script]);
    const outputs = await Promise.all([run(), run(), run(), run()]);
    expect(new Set(outputs.map(({ stdout }) => stdout)).size).toBe(1);
    expect(outputs[0]?.stdout).toContain(DEVELOPMENT_ISSUER);
  });
});

test("a damaged file is named, with what to do, and not shown", async () => {
  await developmentKeyring(dataDir);
  const keyringPath = join(dataDir, "development-keyring");
  const signingKeyPath = developmentSigningKeyPath(dataDir);
  await writeFile(keyringPath, "development:c2hvcnQ=");
  await expect(developmentKeyring(dataDir)).rejects.toThrow(damaged(keyringPath));
  for (const text of ["", '{"kty":"oct","k":"AAAA"}', '{"kty":"EC"}', "null"]) {
    await writeFile(signingKeyPath, text);
    const attempt = mintDevelopmentToken({ ...TOKEN, dataDir });
    await expect(attempt).rejects.toThrow(damaged(signingKeyPath));
  }
});

function damaged(path: string): Error {
  return new Error(`${path} is damaged; remove it to have a new key made`);
}

test("a data directory that cannot be made is an error", async () => {
  await writeFile(join(parent, "file"), "");
  await expect(developmentKeyring(join(parent, "file"))).rejects.toThrow("ENOTDIR");
});
