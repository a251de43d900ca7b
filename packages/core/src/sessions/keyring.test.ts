import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SessiondError } from "../errors.js";
import { Keyring, sealedKeyId } from "./keyring.js";

const bytes = fc.uint8Array({ maxLength: 400, size: "max" });
const context = Buffer.from("session\0id\0user");

function key(kid: string): string {
  return `${kid}:${randomBytes(32).toString("base64")}`;
}

function seal(keyring: Keyring, text: string): Uint8Array {
  return keyring.seal(Buffer.from(text), context);
}

/** The error that unsealing fails with. */
function failure(keyring: Keyring, sealed: Uint8Array, otherContext = context): SessiondError {
  try {
    keyring.unseal(sealed, otherContext);
  } catch (error) {
    if (error instanceof SessiondError) return error;
    throw error;
  }
  throw new Error("it was unsealed");
}

describe("sealing", () => {
  const keyring = Keyring.parse(key("k1"));

  test("and unsealing give back what was sealed, of any bytes and in its own context only", () => {
    fc.assert(
      fc.property(bytes, bytes, bytes, (plaintext, own, other) => {
        const sealed = keyring.seal(plaintext, own);
        expect(Buffer.from(keyring.unseal(sealed, own))).toEqual(Buffer.from(plaintext));
        if (Buffer.from(own).equals(Buffer.from(other))) return;
        expect(failure(keyring, sealed, Buffer.from(other)).reason).toBe("SESSION_UNREADABLE");
      }),
    );
  });

  test("never gives the same bytes twice, nor the plaintext, and costs 30 bytes and the key id", () => {
    const sealed = Array.from({ length: 1_000 }, () => Buffer.from(seal(keyring, "canary")));
    expect(new Set(sealed.map((one) => one.toString("hex"))).size).toBe(1_000);
    for (const one of sealed) expect(one.includes("canary")).toBe(false);
    expect(sealed[0]?.length).toBe("canary".length + 30 + "k1".length);
  });
});

describe("a sealed record is refused", () => {
  const keyring = Keyring.parse(key("k1"));

  test("with any one bit flipped, cut or extended anywhere, or when it is garbage", () => {
    const sealed = seal(keyring, "content");
    const refused = (record: Uint8Array) =>
      expect(failure(keyring, record).reason).toBe("SESSION_UNREADABLE");
    for (let index = 0; index < sealed.length; index++) {
      for (let bit = 0; bit < 8; bit++) {
        refused(sealed.map((byte, at) => (at === index ? byte ^ (1 << bit) : byte)));
      }
      refused(sealed.subarray(0, index));
      refused(sealed.subarray(index + 1));
    }
    refused(Buffer.concat([sealed, Buffer.alloc(1)]));
    fc.assert(fc.property(bytes, (garbage) => void refused(garbage)));
  });

  test("under another key of the same id, or one that is not in the keyring, which the error names", () => {
    const same = failure(Keyring.parse(key("k1")), seal(keyring, "content"));
    expect(same.message).toContain("sealed under another key of the same id");
    const other = failure(Keyring.parse(key("k2")), seal(keyring, "content"));
    expect(other.message).toContain('key "k1", which is not in the keyring');
    for (const error of [same, other]) {
      expect(error).toMatchObject({ reason: "SESSION_UNREADABLE", metadata: { key_id: "k1" } });
    }
  });
});

describe("a keyring", () => {
  const [k1, k2] = [key("k1"), key("k2")];

  test("seals under its first key and is rotated in steps, each of which reads its neighbours", () => {
    const steps = [k1, `${k1},${k2}`, `${k2},${k1}`, k2].map((text) => Keyring.parse(text));
    expect(steps.map(({ activeKeyId }) => activeKeyId)).toEqual(["k1", "k1", "k2", "k2"]);
    for (const [i, before] of steps.slice(0, -1).entries()) {
      const after = steps[i + 1] ?? before;
      for (const [writer, reader] of [
        [before, after],
        [after, before],
      ] as const) {
        const sealed = seal(writer, "content");
        expect(sealedKeyId(sealed)).toBe(writer.activeKeyId);
        expect(Buffer.from(reader.unseal(sealed, context)).toString()).toBe("content");
      }
    }
  });

  test("reads keys with spaces around them, ids of 1 to 32 characters, and what it generates", () => {
    const text = ` ${key("a")} ,\n${key("A.b_c-9")} , ${key("x".repeat(32))}`;
    expect(Keyring.parse(text).activeKeyId).toBe("a");
    expect(Keyring.parse(Keyring.generateKey("mine")).activeKeyId).toBe("mine");
    const [first, second] = [Keyring.generateKey(), Keyring.generateKey()];
    expect(Keyring.parse(`${first},${second}`).activeKeyId).toBe(first.split(":")[0]);
  });

  test.each([
    ["", "key 1: expected kid:base64"],
    ["k1", "key 1: expected kid:base64"],
    [`${k1},`, "key 2: expected kid:base64"],
    [`${k1}:more`, "key 1: expected kid:base64"],
    [k1.slice(2), "key 1: expected a key id"],
    [key("k 1"), "key 1: expected a key id"],
    [key("\u00e9"), "key 1: expected a key id"],
    [key("x".repeat(33)), "key 1: expected a key id"],
    ["k1:", 'key 1 ("k1"): expected 32 bytes in base64, got 0'],
    [`k1:${Buffer.alloc(33).toString("base64")}`, "got 33"],
    [
      `k1:${Buffer.alloc(32).toString("base64").replace("A", "A!")}`,
      "expected base64 and nothing else",
    ],
    [`${k1},${k2},${key("k1")}`, 'key 3: the key id "k1" occurs twice'],
  ])("says what is wrong with %j", (text, message) => {
    expect(() => Keyring.parse(text)).toThrow(message);
  });

  test("shows no key in its errors", () => {
    const secret = randomBytes(31).toString("base64");
    for (const text of [`k1:${secret}`, `k1:${secret}:x`, `k 1:${secret}`, `${k1},k1:${secret}`]) {
      try {
        Keyring.parse(text);
        throw new Error("it was read");
      } catch (error) {
        expect(String(error)).not.toContain(secret.slice(0, 8));
      }
    }
  });
});

test("the key id of a record is known without its key, and of garbage it is undefined", () => {
  expect(sealedKeyId(seal(Keyring.parse(key("kid.7")), ""))).toBe("kid.7");
  expect(sealedKeyId(new Uint8Array())).toBeUndefined();
  expect(sealedKeyId(new Uint8Array([1]))).toBeUndefined();
  expect(sealedKeyId(new Uint8Array(100))).toBeUndefined();
  expect(sealedKeyId(Uint8Array.of(1, 255, ...new Uint8Array(100)))).toBeUndefined();
});

test("a keyring that takes the keys of another seals and unseals with them, and with no others", () => {
  const [before, next] = [key("k1"), key("k2")];
  const keyring = Keyring.parse(before);
  const old = seal(keyring, "old");
  keyring.replaceWith(Keyring.parse(`${next},${before}`));
  expect(keyring.activeKeyId).toBe("k2");
  expect(sealedKeyId(seal(keyring, "new"))).toBe("k2");
  expect(Buffer.from(keyring.unseal(old, context)).toString()).toBe("old");
  keyring.replaceWith(Keyring.parse(next));
  expect(failure(keyring, old).message).toContain('under key "k1", which is not in the keyring');
});

test("a key is another one if its id is new or its bytes are", () => {
  const [k1, k2] = [key("k1"), key("k2")];
  const keyring = Keyring.parse(`${k1},${k2}`);
  expect(keyring.keysNotIn(Keyring.parse(`${k2},${k1}`))).toEqual([]);
  expect(keyring.keysNotIn(Keyring.parse(k2))).toEqual(["k1"]);
  expect(keyring.keysNotIn(Keyring.parse(`${key("k2")},${k1}`))).toEqual(["k2"]);
});
