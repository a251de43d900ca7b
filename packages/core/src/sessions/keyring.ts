import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { SessiondError } from "../errors.js";

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const FORMAT_VERSION = 1;
const KEY_ID = /^[A-Za-z0-9._-]{1,32}$/;

/**
 * The keys that seal session records with AES-256-GCM. The first key seals, all keys unseal. To
 * rotate, put a new key in front, and drop the old one once no record is sealed under it.
 *
 * With random 96-bit nonces one key may seal 2^32 records (NIST SP 800-38D, 8.3).
 */
export class Keyring {
  #keys: ReadonlyMap<string, Uint8Array>;
  #activeHeader: Uint8Array;
  #activeKey: Uint8Array;
  #activeKeyId: string;

  private constructor(activeKeyId: string, activeKey: Uint8Array, keys: Map<string, Uint8Array>) {
    this.#keys = keys;
    this.#activeKey = activeKey;
    this.#activeKeyId = activeKeyId;
    const id = Buffer.from(activeKeyId, "latin1");
    this.#activeHeader = Buffer.concat([Buffer.from([FORMAT_VERSION, id.length]), id]);
  }

  /** The id of the key that seals. */
  get activeKeyId(): string {
    return this.#activeKeyId;
  }

  /** The ids of the keys that `other` lacks, or has with other bytes. */
  keysNotIn(other: Keyring): readonly string[] {
    return [...this.#keys]
      .filter(([kid, key]) => !other.#keys.get(kid)?.every((byte, i) => byte === key[i]))
      .map(([kid]) => kid);
  }

  /** Has the keys of `other` from now on. Whoever holds this keyring seals and unseals with them. */
  replaceWith(other: Keyring): void {
    this.#keys = other.#keys;
    this.#activeHeader = other.#activeHeader;
    this.#activeKey = other.#activeKey;
    this.#activeKeyId = other.#activeKeyId;
  }

  /**
   * Reads `kid:base64,kid:base64,…`, the active key first, each key 32 bytes. Throws an Error that
   * never shows a key.
   */
  static parse(text: string): Keyring {
    const keys = new Map<string, Uint8Array>();
    for (const [index, entry] of text.split(",").entries()) {
      const [kid, encoded, ...rest] = entry.trim().split(":");
      const position = `key ${index + 1}`;
      if (kid === undefined || encoded === undefined || rest.length > 0) {
        throw new Error(`${position}: expected kid:base64`);
      }
      if (!KEY_ID.test(kid)) {
        throw new Error(
          `${position}: expected a key id of 1 to 32 characters out of A-Z a-z 0-9 . _ -`,
        );
      }
      const key = Buffer.from(encoded, "base64");
      if (key.length !== KEY_BYTES) {
        throw new Error(
          `${position} ("${kid}"): expected ${KEY_BYTES} bytes in base64, got ${key.length}`,
        );
      }
      // Buffer skips other characters, so a mistyped key would pass for another key.
      if (key.toString("base64") !== encoded) {
        throw new Error(`${position} ("${kid}"): expected base64 and nothing else`);
      }
      if (keys.has(kid)) throw new Error(`${position}: the key id "${kid}" occurs twice`);
      keys.set(kid, key);
    }
    const [active] = keys;
    if (active === undefined) throw new Error("expected at least one key");
    return new Keyring(...active, keys);
  }

  /** A new key as `parse` reads it: `kid:base64`. */
  static generateKey(kid: string = `k${randomBytes(4).toString("hex")}`): string {
    return `${kid}:${randomBytes(KEY_BYTES).toString("base64")}`;
  }

  /**
   * Seals `plaintext` as
   *
   *     format version (1 byte) | length of kid (1) | kid | nonce (12) | ciphertext | tag (16)
   *
   * `context` is authenticated but not stored. Unsealing needs the same context, so a record that
   * was moved to another session is refused.
   */
  seal(plaintext: Uint8Array, context: Uint8Array): Uint8Array {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv("aes-256-gcm", this.#activeKey, nonce, {
      authTagLength: TAG_BYTES,
    });
    cipher.setAAD(context);
    const ciphertext = cipher.update(plaintext);
    cipher.final();
    return Buffer.concat([this.#activeHeader, nonce, ciphertext, cipher.getAuthTag()]);
  }

  /** Opens a sealed record. Throws SESSION_UNREADABLE if it cannot. */
  unseal(sealed: Uint8Array, context: Uint8Array): Uint8Array {
    const kid = sealedKeyId(sealed);
    if (kid === undefined) throw unreadable("it is damaged", {});
    const key = this.#keys.get(kid);
    if (key === undefined) {
      throw unreadable(`it is sealed under key "${kid}", which is not in the keyring`, {
        key_id: kid,
      });
    }
    const nonceStart = 2 + kid.length;
    const textStart = nonceStart + NONCE_BYTES;
    const tagStart = sealed.length - TAG_BYTES;
    try {
      const nonce = sealed.subarray(nonceStart, textStart);
      const decipher = createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES });
      decipher.setAAD(context);
      decipher.setAuthTag(sealed.subarray(tagStart));
      const plaintext = decipher.update(sealed.subarray(textStart, tagStart));
      decipher.final();
      return plaintext;
    } catch (cause) {
      throw unreadable(
        "it is damaged, or sealed under another key of the same id",
        { key_id: kid },
        cause,
      );
    }
  }
}

/** The id of the key that a record is sealed under. Undefined for other bytes. */
export function sealedKeyId(sealed: Uint8Array): string | undefined {
  const [version, length] = sealed;
  if (version !== FORMAT_VERSION || length === undefined) return undefined;
  if (sealed.length < 2 + length + NONCE_BYTES + TAG_BYTES) return undefined;
  let kid = "";
  for (let i = 2; i < 2 + length; i++) kid += String.fromCharCode(sealed[i] ?? 0);
  return kid;
}

function unreadable(why: string, metadata: Record<string, string>, cause?: unknown): SessiondError {
  return new SessiondError("SESSION_UNREADABLE", `the session's record cannot be read: ${why}`, {
    metadata,
    cause,
  });
}
