import { generateKeyPairSync } from "node:crypto";
import { exportJWK, generateKeyPair, type JWK } from "jose";
import { expect, test } from "vitest";
import { parseKeySet } from "./key-set.js";

async function keyPair() {
  const { privateKey, publicKey } = await generateKeyPair("ES256", { extractable: true });
  return { secret: await exportJWK(privateKey), open: await exportJWK(publicKey) };
}

function rsa(modulusLength: number): JWK {
  return generateKeyPairSync("rsa", { modulusLength }).publicKey.export({ format: "jwk" }) as JWK;
}

const EC = generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey;
const EXAMPLE = EC.export({ format: "jwk" });
const OKP = generateKeyPairSync("x25519").publicKey.export({ format: "jwk" });
const NO_TOKEN = { payload: "", signature: "" };

function setOf(...keys: readonly object[]): string {
  return JSON.stringify({ keys });
}

test("sets of the same keys have the same fingerprint in any order", async () => {
  const [a, b] = [await keyPair(), await keyPair()];
  const fingerprint = parseKeySet(setOf(a.open, b.open)).fingerprint;
  expect(parseKeySet(setOf(b.open, a.open)).fingerprint).toBe(fingerprint);
  expect(parseKeySet(setOf(a.open)).fingerprint).not.toBe(fingerprint);
  expect(parseKeySet(setOf(a.open, { ...b.open, kid: "b" })).fingerprint).not.toBe(fingerprint);
});

test.each([
  ["no key", []],
  ["a key that encrypts", [{ ...EXAMPLE, use: "enc" }]],
  ["a key that only agrees on secrets", [OKP]],
  ["an RSA key of 1024 bits", [rsa(1024)]],
  ["damaged keys", [{ kty: "EC" }, { ...EXAMPLE, x: "AAAA" }, { kty: "toString" }]],
])("a set of %s is no key set, and is refused", (_, keys) => {
  expect(() => parseKeySet(setOf(...keys))).toThrow("expected a key that verifies signatures");
  expect(() => parseKeySet(setOf(...keys, rsa(2048)))).not.toThrow();
});

test("a set of more than 256 keys is refused", () => {
  const keys = Array.from({ length: 257 }, () => EXAMPLE);
  expect(() => parseKeySet(setOf(...keys.slice(1)))).not.toThrow();
  expect(() => parseKeySet(setOf(...keys))).toThrow("expected at most 256 keys, got 257");
});

test("a damaged key is told from a missing one", async () => {
  const { open } = await keyPair();
  const { find } = parseKeySet(setOf({ ...open, kid: "a" }, { ...open, x: "AAAA", kid: "b" }));
  await expect(find({ alg: "ES256", kid: "a" }, NO_TOKEN)).resolves.toBeDefined();
  await expect(find({ alg: "ES256", kid: "b" }, NO_TOKEN)).rejects.toThrow("cannot be used");
  await expect(find({ alg: "ES256", kid: "c" }, NO_TOKEN)).rejects.toThrow("no applicable key");
});

test("a private or symmetric key is refused and not shown", async () => {
  const { secret, open } = await keyPair();
  expect(() => parseKeySet(setOf(open))).not.toThrow();
  expect(() => parseKeySet(setOf(open, secret))).toThrow(/^expected public keys only;[^{]*$/);
  expect(() => parseKeySet(setOf({ kty: "oct", k: "aHVudGVyMg" }))).toThrow("public keys only");
});

test.each([
  "",
  "x",
  "null",
  "[]",
  "{}",
  ...["{}", "[1]", "[null]", "[{}]"].map((keys) => `{"keys":${keys}}`),
])("%s is not a JWK Set", (text) => {
  expect(() => parseKeySet(text)).toThrow("expected a JWK Set");
});
