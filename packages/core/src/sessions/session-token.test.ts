import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { expect, test } from "vitest";
import { generateSessionId, PARTITIONS } from "./session-id.js";
import {
  formatSessionToken,
  generateSecret,
  hashesEqual,
  hashSecret,
  parseSessionToken,
  SESSION_TOKEN_PREFIX,
  type SessionToken,
} from "./session-token.js";

const BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const ID_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~:@-";

const partitions = fc.constantFrom(...PARTITIONS);
const secrets = fc.uint8Array({ minLength: 32, maxLength: 32 });
const generatedTokens: fc.Arbitrary<SessionToken> = fc
  .record({ bytes: secrets, secret: secrets })
  .map(({ bytes, secret }) => {
    const sessionId = Buffer.from(bytes).toString("hex");
    return { sessionId, partition: sessionId.slice(0, 2), secret };
  });
const chosenTokens: fc.Arbitrary<SessionToken> = fc.record({
  sessionId: fc
    .string({ unit: fc.constantFrom(...ID_CHARACTERS), minLength: 1, maxLength: 128, size: "max" })
    .filter((id) => !/^[0-9a-fA-F]{64}$/.test(id)),
  partition: partitions,
  secret: secrets,
});
const tokens = fc.oneof(generatedTokens, chosenTokens);

function newToken(sessionId: string): SessionToken {
  return { sessionId, partition: sessionId.slice(0, 2), secret: generateSecret() };
}

/** The token with one character changed to another. */
function withCharacter(text: string, index: number, character: string): string {
  return text.slice(0, index) + character + text.slice(index + 1);
}

test("a token says what was put into it, for every id", () => {
  fc.assert(
    fc.property(tokens, (token) => {
      const parsed = parseSessionToken(formatSessionToken(token));
      expect({ ...parsed, secret: Buffer.from(parsed?.secret ?? []) }).toEqual({
        ...token,
        secret: Buffer.from(token.secret),
      });
    }),
  );
});

test("a token starts with sst_ and needs no escaping in a header, a URL or a shell", () => {
  fc.assert(
    fc.property(tokens, (token) => {
      expect(formatSessionToken(token)).toMatch(/^sst_[A-Za-z0-9_-]+$/);
    }),
  );
  expect(SESSION_TOKEN_PREFIX).toBe("sst_");
  expect(formatSessionToken(newToken(generateSessionId("ab")))).toHaveLength(96);
});

test("a token with any one character changed is refused", () => {
  fc.assert(
    fc.property(tokens, fc.nat(), fc.nat(), (token, position, choice) => {
      const text = formatSessionToken(token);
      const index = position % text.length;
      const others = [...`${BASE64URL} .=\u00e9`].filter((character) => character !== text[index]);
      const changed = withCharacter(text, index, others[choice % others.length] ?? "");
      expect(parseSessionToken(changed), changed).toBeUndefined();
    }),
    { numRuns: 1_000 },
  );
});

test("no single character can be changed anywhere in a token, to any other", () => {
  // Whether a checksum sees a change depends on where it is, not on what it is
  // made in; these lengths of ids shift the checksum against base64's characters.
  for (const sessionId of [generateSessionId("7f"), "a", "ab", "abc", "x".repeat(128)]) {
    const text = formatSessionToken(newToken(sessionId));
    for (let index = 0; index < text.length; index++) {
      for (const character of BASE64URL) {
        if (character === text[index]) continue;
        expect(parseSessionToken(withCharacter(text, index, character))).toBeUndefined();
      }
    }
  }
});

test("a token that was cut, extended, padded or had two characters swapped is refused", () => {
  fc.assert(
    fc.property(tokens, fc.nat(), (token, position) => {
      const text = formatSessionToken(token);
      const index = 4 + (position % (text.length - 5));
      expect(parseSessionToken(text.slice(0, index))).toBeUndefined();
      for (const tail of ["A", "=", "==", " ", "\n", ".", text]) {
        expect(parseSessionToken(text + tail)).toBeUndefined();
      }
      for (const start of [" ", "Bearer ", "\ufeff"]) {
        expect(parseSessionToken(start + text)).toBeUndefined();
      }
      const [left = "", right = ""] = [text[index], text[index + 1]];
      if (left !== right) {
        const swapped = text.slice(0, index) + right + left + text.slice(index + 2);
        expect(parseSessionToken(swapped)).toBeUndefined();
      }
    }),
  );
});

test("a token has one spelling: base64 in another alphabet, case or padding is refused", () => {
  for (let i = 0; i < 200; i++) {
    const text = formatSessionToken(newToken(generateSessionId("00")));
    const body = text.slice(SESSION_TOKEN_PREFIX.length);
    const standard = body.replaceAll("-", "+").replaceAll("_", "/");
    if (standard !== body) expect(parseSessionToken(`sst_${standard}`)).toBeUndefined();
    expect(parseSessionToken(`sst_${body.slice(0, 40)}\n${body.slice(40)}`)).toBeUndefined();
    expect(parseSessionToken(`SST_${body}`)).toBeUndefined();
  }
});

test("garbage is never a token", () => {
  const base64url = fc.string({ unit: fc.constantFrom(...BASE64URL), maxLength: 230, size: "max" });
  const garbage = fc.oneof(
    fc.string(),
    fc.string({ unit: "binary", maxLength: 300, size: "max" }),
    base64url.map((text) => SESSION_TOKEN_PREFIX + text),
    fc
      .uint8Array({ maxLength: 250, size: "max" })
      .map((bytes) => `sst_${Buffer.from(bytes).toString("base64url")}`),
  );
  fc.assert(
    fc.property(garbage, (text) => {
      expect(parseSessionToken(text)).toBeUndefined();
    }),
    { numRuns: 500 },
  );
});

test("a text of megabytes is no token", () => {
  expect(parseSessionToken(SESSION_TOKEN_PREFIX + "A".repeat(5_000_000))).toBeUndefined();
});

test("a token of the longest chosen id is accepted, and one of a longer id is not", () => {
  const longest = formatSessionToken({ ...newToken("x".repeat(128)), partition: "00" });
  const tooLong = formatSessionToken({ ...newToken("x".repeat(129)), partition: "00" });
  expect(parseSessionToken(longest)?.sessionId).toBe("x".repeat(128));
  expect(parseSessionToken(tooLong)).toBeUndefined();
});

test("a well-formed token for an id that nobody may choose is refused", () => {
  for (const sessionId of ["", "a b", "{x}", "A".repeat(64), "\u00e9", "a\n"]) {
    const text = formatSessionToken({ sessionId, partition: "00", secret: generateSecret() });
    expect(parseSessionToken(text), JSON.stringify(sessionId)).toBeUndefined();
  }
});

test("a token of another version, or with an id of another length, is refused", () => {
  const sealed = (version: number, id: Uint8Array) => {
    const bytes = Buffer.concat([Buffer.of(version), generateSecret(), Buffer.alloc(4), id]);
    const checksum = crc32(bytes.subarray(37), crc32(bytes.subarray(0, 33)));
    bytes.writeUInt32BE(checksum, 33);
    return `sst_${bytes.toString("base64url")}`;
  };
  expect(parseSessionToken(sealed(1, Buffer.alloc(32)))).toBeDefined();
  expect(parseSessionToken(sealed(2, Buffer.from("\0jti-1")))).toBeDefined();
  for (const version of [0, 3, 255]) {
    expect(parseSessionToken(sealed(version, Buffer.alloc(32)))).toBeUndefined();
  }
  for (const length of [1, 31, 33, 64]) {
    expect(parseSessionToken(sealed(1, Buffer.alloc(length)))).toBeUndefined();
  }
});

test("secrets have 32 bytes and do not repeat", () => {
  const all = Array.from({ length: 1_000 }, () => Buffer.from(generateSecret()).toString("hex"));
  for (const secret of all) expect(secret).toMatch(/^[0-9a-f]{64}$/);
  expect(new Set(all).size).toBe(1_000);
});

test("what is kept of a secret is its SHA-256", () => {
  fc.assert(
    fc.property(secrets, (secret) => {
      const expected = createHash("sha256").update(secret).digest("hex");
      expect(Buffer.from(hashSecret(secret)).toString("hex")).toBe(expected);
    }),
  );
});

test("hashes are equal when all their bytes are, and never when one is empty", () => {
  const hash = hashSecret(generateSecret());
  expect(hashesEqual(hash, Uint8Array.from(hash))).toBe(true);
  for (let i = 0; i < hash.length; i++) {
    const other = Uint8Array.from(hash);
    other[i] = (other[i] ?? 0) ^ 1;
    expect(hashesEqual(hash, other)).toBe(false);
  }
  expect(hashesEqual(hash, new Uint8Array())).toBe(false);
  expect(hashesEqual(new Uint8Array(), hash)).toBe(false);
  expect(hashesEqual(hash, hash.subarray(0, 31))).toBe(false);
});
