import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { SessiondError } from "../errors.js";
import { assertNamespace } from "../namespace.js";

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const FORMAT_VERSION = 1;
const KEY_ID = /^[A-Za-z0-9._-]{1,32}$/;

interface Keys {
  readonly byId: ReadonlyMap<string, Uint8Array>;
  readonly activeId: string;
  readonly activeKey: Uint8Array;
  /** What a record begins with that the active key seals. */
  readonly activeHeader: Uint8Array;
}

/**
 * The keys that seal session records with AES-256-GCM. The first key seals, all keys unseal. To
 * rotate, put a new key in front, and drop the old one once no record is sealed under it.
 *
 * With random 96-bit nonces one key may seal 2^32 records (NIST SP 800-38D, 8.3).
 */
export class Keyring {
  /** Shared by the keyrings of all namespaces. */
  readonly #shared: { keys: Keys };
  /** Stands before the context of every record. Empty in the namespace "". */
  readonly #contextPrefix: Uint8Array;

  private constructor(shared: { keys: Keys }, namespace = "") {
    assertNamespace(namespace);
    this.#shared = shared;
    // No context of a record begins with this word, and no name contains a NUL.
    this.#contextPrefix = Buffer.from(namespace && `namespace\0${namespace}\0`);
  }

  /** The id of the key that seals. */
  get activeKeyId(): string {
    return this.#shared.keys.activeId;
  }

  /** The ids of all keys, the active one first. */
  get keyIds(): readonly string[] {
    const { activeId, byId } = this.#shared.keys;
    return [activeId, ...[...byId.keys()].filter((id) => id !== activeId)];
  }

  /** The ids of the keys that `other` lacks, or has with other bytes. */
  keysNotIn(other: Keyring): readonly string[] {
    const { byId } = other.#shared.keys;
    return [...this.#shared.keys.byId]
      .filter(([kid, key]) => !byId.get(kid)?.every((byte, i) => byte === key[i]))
      .map(([kid]) => kid);
  }

  /**
   * Has the keys of `other` from now on, in all namespaces. Whoever holds this keyring seals and
   * unseals with them.
   */
  replaceWith(other: Keyring): void {
    this.#shared.keys = other.#shared.keys;
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
    const [activeId, activeKey] = active;
    const id = Buffer.from(activeId, "latin1");
    const activeHeader = Buffer.concat([Buffer.from([FORMAT_VERSION, id.length]), id]);
    return new Keyring({ keys: { byId: keys, activeId, activeKey, activeHeader } });
  }

  /** The same keys for the records of a namespace, which open in no other namespace. */
  forNamespace(namespace: string): Keyring {
    return new Keyring(this.#shared, namespace);
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
   * was moved to another session or namespace is refused.
   */
  seal(plaintext: Uint8Array, context: Uint8Array): Uint8Array {
    const { activeKey, activeHeader } = this.#shared.keys;
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv("aes-256-gcm", activeKey, nonce, { authTagLength: TAG_BYTES });
    cipher.setAAD(this.#inNamespace(context));
    const ciphertext = cipher.update(plaintext);
    cipher.final();
    return Buffer.concat([activeHeader, nonce, ciphertext, cipher.getAuthTag()]);
  }

  /** Opens a sealed record. Throws SESSION_UNREADABLE if it cannot. */
  unseal(sealed: Uint8Array, context: Uint8Array): Uint8Array {
    const kid = sealedKeyId(sealed);
    if (kid === undefined) throw unreadable("it is damaged", {});
    const key = this.#shared.keys.byId.get(kid);
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
      decipher.setAAD(this.#inNamespace(context));
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

  #inNamespace(context: Uint8Array): Uint8Array {
    const prefix = this.#contextPrefix;
    return prefix.length === 0 ? context : Buffer.concat([prefix, context]);
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
