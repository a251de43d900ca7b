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

  test("and unsealing give back what was sealed, of any bytes and in any context", () => {
    fc.assert(
      fc.property(bytes, bytes, (plaintext, anyContext) => {
        const sealed = keyring.seal(plaintext, anyContext);
        expect(Buffer.from(keyring.unseal(sealed, anyContext))).toEqual(Buffer.from(plaintext));
      }),
    );
  });

  test("never gives the same bytes twice", () => {
    const sealed = Array.from({ length: 1_000 }, () => seal(keyring, "same"));
    expect(new Set(sealed.map((one) => Buffer.from(one).toString("hex"))).size).toBe(1_000);
  });

  test("hides the plaintext", () => {
    const sealed = Buffer.from(seal(keyring, "canary in the record"));
    expect(sealed.includes("canary")).toBe(false);
  });

  test("costs a header of the key id and 30 bytes", () => {
    expect(seal(keyring, "").length).toBe(30 + "k1".length);
  });
});

describe("a sealed record is refused", () => {
  const keyring = Keyring.parse(key("k1"));

  test("with any one bit flipped", () => {
    const sealed = seal(keyring, "content");
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const damaged = Uint8Array.from(sealed);
      const index = Math.floor(bit / 8);
      damaged[index] = (damaged[index] ?? 0) ^ (1 << (bit % 8));
      expect(failure(keyring, damaged).reason).toBe("SESSION_UNREADABLE");
    }
  });

  test("when it was cut or extended anywhere", () => {
    const sealed = seal(keyring, "content");
    for (let length = 0; length < sealed.length; length++) {
      expect(failure(keyring, sealed.subarray(0, length)).reason).toBe("SESSION_UNREADABLE");
      expect(failure(keyring, sealed.subarray(length + 1)).reason).toBe("SESSION_UNREADABLE");
    }
    const extended = Buffer.concat([sealed, Buffer.alloc(1)]);
    expect(failure(keyring, extended).reason).toBe("SESSION_UNREADABLE");
  });

  test("in any other context, so that it cannot be moved to another session", () => {
    fc.assert(
      fc.property(bytes, bytes, (own, other) => {
        fc.pre(!Buffer.from(own).equals(Buffer.from(other)));
        const sealed = keyring.seal(Buffer.from("content"), own);
        expect(failure(keyring, sealed, Buffer.from(other)).reason).toBe("SESSION_UNREADABLE");
      }),
    );
  });

  test("when it is no sealed record at all", () => {
    fc.assert(
      fc.property(bytes, (garbage) => {
        expect(failure(keyring, garbage).reason).toBe("SESSION_UNREADABLE");
      }),
    );
  });

  test("under another key of the same id", () => {
    const error = failure(Keyring.parse(key("k1")), seal(keyring, "content"));
    expect(error.message).toContain("sealed under another key of the same id");
    expect(error.metadata).toEqual({ key_id: "k1" });
  });

  test("under a key that is not in the keyring, which the error names", () => {
    const error = failure(Keyring.parse(key("k2")), seal(keyring, "content"));
    expect(error.reason).toBe("SESSION_UNREADABLE");
    expect(error.message).toContain('key "k1", which is not in the keyring');
    expect(error.metadata).toEqual({ key_id: "k1" });
  });
});

describe("a keyring", () => {
  const [k1, k2] = [key("k1"), key("k2")];

  test("seals under its first key and unseals under all", () => {
    const old = seal(Keyring.parse(k1), "old");
    const rotated = Keyring.parse(`${k2},${k1}`);
    expect(rotated.activeKeyId).toBe("k2");
    expect(Buffer.from(rotated.unseal(old, context)).toString()).toBe("old");
    const fresh = seal(rotated, "fresh");
    expect(sealedKeyId(fresh)).toBe("k2");
    expect(sealedKeyId(old)).toBe("k1");
    expect(failure(Keyring.parse(k1), fresh).metadata).toEqual({ key_id: "k2" });
  });

  test("is rotated in steps, of which any two neighbours can read what the other seals", () => {
    const steps = [k1, `${k1},${k2}`, `${k2},${k1}`, k2].map((text) => Keyring.parse(text));
    for (const [i, before] of steps.slice(0, -1).entries()) {
      const after = steps[i + 1] ?? before;
      for (const [writer, reader] of [
        [before, after],
        [after, before],
      ] as const) {
        const sealed = seal(writer, "content");
        expect(Buffer.from(reader.unseal(sealed, context)).toString()).toBe("content");
      }
    }
  });

  test("may have spaces around its keys, and ids of 1 to 32 characters", () => {
    const text = ` ${key("a")} ,\n${key("A.b_c-9")} , ${key("x".repeat(32))}`;
    expect(Keyring.parse(text).activeKeyId).toBe("a");
  });

  test("generates keys that it reads", () => {
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
    [`k1:${Buffer.alloc(31).toString("base64")}`, "got 31"],
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
