import { exportJWK, generateKeyPair } from "jose";
import { expect, test } from "vitest";
import { parseKeySet } from "./key-set.js";

async function keyPair() {
  const { privateKey, publicKey } = await generateKeyPair("ES256", { extractable: true });
  return { secret: await exportJWK(privateKey), open: await exportJWK(publicKey) };
}

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

test("no token matches an empty set", async () => {
  await expect(parseKeySet(setOf()).find({ alg: "ES256" }, NO_TOKEN)).rejects.toThrow(
    "no applicable key",
  );
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
