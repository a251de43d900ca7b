import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { anyCharacter } from "../testing/contract/any-character.js";
import { generateSessionId, PARTITIONS } from "./session-id.js";
import {
  formatSessionToken,
  generateSecret,
  hashesEqual,
  hashSecret,
  parseSessionToken,
  type SessionToken,
} from "./session-token.js";

const BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

const secrets = fc.uint8Array({ minLength: 32, maxLength: 32 });
const chosenIds = fc
  .string({ unit: fc.constantFrom(...BASE64URL, ..."._~:@"), minLength: 1, maxLength: 128 })
  .filter((id) => !/^[0-9a-fA-F]{64}$/.test(id));
const tokens: fc.Arbitrary<SessionToken> = fc
  .record({ secret: secrets, partition: fc.constantFrom(...PARTITIONS), chosen: chosenIds })
  .chain(({ secret, partition, chosen }) =>
    fc.constantFrom(generateSessionId(partition), chosen).map((sessionId) => {
      return { sessionId, partition, secret };
    }),
  );

function newToken(sessionId: string, partition = "00"): SessionToken {
  return { sessionId, partition, secret: generateSecret() };
}

test("a token says what was put into it, in characters that need no escaping anywhere", () => {
  fc.assert(
    fc.property(tokens, (token) => {
      const text = formatSessionToken(token);
      expect(text).toMatch(/^sst_[A-Za-z0-9_-]+$/);
      const { secret = [], ...rest } = parseSessionToken(text) ?? {};
      expect({ ...rest, secret: [...secret] }).toEqual({ ...token, secret: [...token.secret] });
    }),
  );
  expect(formatSessionToken(newToken(generateSessionId("ab"), "ab"))).toHaveLength(96);
});

test("no single character of a token can be changed to another", () => {
  // Whether a checksum sees a change depends on where it is; these lengths of ids shift the
  // checksum against base64's characters.
  for (const sessionId of [generateSessionId("00"), "a", "ab", "abc", "x".repeat(128)]) {
    const text = formatSessionToken(newToken(sessionId));
    for (let index = 0; index < text.length; index++) {
      for (const character of `${BASE64URL} .=+/\u00e9`) {
        if (character === text[index]) continue;
        const changed = text.slice(0, index) + character + text.slice(index + 1);
        expect(parseSessionToken(changed)).toBeUndefined();
      }
    }
  }
});

test("a token that was cut, extended or had two characters swapped is refused", () => {
  fc.assert(
    fc.property(tokens, fc.nat(), (token, position) => {
      const text = formatSessionToken(token);
      const index = 4 + (position % (text.length - 5));
      const [left = "", right = ""] = [text[index], text[index + 1]];
      const swapped = text.slice(0, index) + right + left + text.slice(index + 2);
      const others = [text.slice(0, index), `${text}A`, `${text}=`, `${text}\n`, ` ${text}`];
      if (left !== right) others.push(swapped);
      for (const other of others) expect(parseSessionToken(other)).toBeUndefined();
    }),
  );
});

test("garbage of any length is never a token", () => {
  const bytes = fc.uint8Array({ maxLength: 250, size: "max" });
  const encoded = bytes.map((some) => `sst_${Buffer.from(some).toString("base64url")}`);
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: anyCharacter }), encoded), (text) => {
      expect(parseSessionToken(text)).toBeUndefined();
    }),
    { numRuns: 500 },
  );
  expect(parseSessionToken(`sst_${"A".repeat(5_000_000)}`)).toBeUndefined();
});

test("a well-formed token for an id that nobody may have is refused", () => {
  expect(parseSessionToken(formatSessionToken(newToken("x".repeat(128))))).toBeDefined();
  for (const id of ["", "x".repeat(129), "a b", "{x}", "A".repeat(64), "\u00e9", "a\n"]) {
    expect(parseSessionToken(formatSessionToken(newToken(id))), id).toBeUndefined();
  }
});

test("secrets have 32 bytes and do not repeat, and what is kept of one is its SHA-256", () => {
  const secret = generateSecret();
  expect([secret.length, generateSecret().length]).toEqual([32, 32]);
  const all = Array.from({ length: 1_000 }, () => Buffer.from(generateSecret()).toString("hex"));
  expect(new Set(all).size).toBe(1_000);
  const expected = createHash("sha256").update(secret).digest("hex");
  expect(Buffer.from(hashSecret(secret)).toString("hex")).toBe(expected);
});

test("hashes are equal when all their bytes are, and never when one is empty", () => {
  const hash = hashSecret(generateSecret());
  expect(hashesEqual(hash, Uint8Array.from(hash))).toBe(true);
  for (let i = 0; i < hash.length; i++) {
    expect(
      hashesEqual(
        hash,
        hash.map((byte, at) => (at === i ? byte ^ 1 : byte)),
      ),
    ).toBe(false);
  }
  expect(hashesEqual(hash, new Uint8Array())).toBe(false);
  expect(hashesEqual(new Uint8Array(), hash)).toBe(false);
  expect(hashesEqual(hash, hash.subarray(0, 31))).toBe(false);
});
