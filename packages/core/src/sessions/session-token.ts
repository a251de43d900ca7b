import { hash, randomBytes, timingSafeEqual } from "node:crypto";
import { crc32 } from "node:zlib";
import { isChosenId, isGeneratedId, type Partition } from "./session-id.js";

/** Every session token starts with this, so secret scanners can find leaked tokens. */
export const SESSION_TOKEN_PREFIX = "sst_";

/** A well-formed session token. It proves nothing until the store has confirmed its secret. */
export interface SessionToken {
  readonly partition: Partition;
  readonly sessionId: string;
  /** 32 bytes. */
  readonly secret: Uint8Array;
}

const SECRET_BYTES = 32;
const HEADER_BYTES = 1 + SECRET_BYTES + 4;
const VERSION_GENERATED_ID = 1;
const VERSION_CHOSEN_ID = 2;

/** The length of a token for a chosen id of 128 characters. */
const MAX_TOKEN_CHARS = SESSION_TOKEN_PREFIX.length + Math.ceil(((HEADER_BYTES + 1 + 128) * 4) / 3);

/** A new secret from the system's CSPRNG. */
export function generateSecret(): Uint8Array {
  return randomBytes(SECRET_BYTES);
}

/** The stored form of a secret. The secret is random, so a plain hash is enough. */
export function hashSecret(secret: Uint8Array): Uint8Array {
  return hash("sha256", secret, "buffer");
}

/** Compares two hashes in constant time. */
export function hashesEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

/**
 * Writes a token: `sst_` and the base64url form of
 *
 *     version (1 byte) | secret (32) | CRC-32 of the rest (4) | id
 *
 * A generated id (version 1) is its 32 bytes, the partition first. A chosen id (version 2) is the
 * partition byte and the id in ASCII. The checksum refuses typos without a store read.
 */
export function formatSessionToken(token: SessionToken): string {
  const generated = isGeneratedId(token.sessionId);
  const id = generated
    ? Buffer.from(token.sessionId, "hex")
    : Buffer.concat([Buffer.from(token.partition, "hex"), Buffer.from(token.sessionId, "latin1")]);
  const bytes = Buffer.alloc(HEADER_BYTES + id.length);
  bytes[0] = generated ? VERSION_GENERATED_ID : VERSION_CHOSEN_ID;
  bytes.set(token.secret, 1);
  bytes.set(id, HEADER_BYTES);
  bytes.writeUInt32BE(checksum(bytes), 1 + SECRET_BYTES);
  return SESSION_TOKEN_PREFIX + bytes.toString("base64url");
}

/** Reads a token. Undefined unless `formatSessionToken` writes exactly this text. */
export function parseSessionToken(text: string): SessionToken | undefined {
  if (!text.startsWith(SESSION_TOKEN_PREFIX) || text.length > MAX_TOKEN_CHARS) return undefined;
  const encoded = text.slice(SESSION_TOKEN_PREFIX.length);
  const bytes = Buffer.from(encoded, "base64url");
  // Buffer skips other characters and loose trailing bits, but a token must have one spelling.
  if (bytes.length <= HEADER_BYTES || bytes.toString("base64url") !== encoded) return undefined;
  if (bytes.readUInt32BE(1 + SECRET_BYTES) !== checksum(bytes)) return undefined;

  const id = parseId(bytes);
  return id && { ...id, secret: bytes.subarray(1, 1 + SECRET_BYTES) };
}

function parseId(bytes: Buffer): Omit<SessionToken, "secret"> | undefined {
  const id = bytes.subarray(HEADER_BYTES);
  switch (bytes[0]) {
    case VERSION_GENERATED_ID: {
      if (id.length !== 32) return undefined;
      const sessionId = id.toString("hex");
      return { sessionId, partition: sessionId.slice(0, 2) };
    }
    case VERSION_CHOSEN_ID: {
      const sessionId = id.toString("latin1", 1);
      if (!isChosenId(sessionId)) return undefined;
      return { sessionId, partition: id.toString("hex", 0, 1) };
    }
    default:
      return undefined;
  }
}

function checksum(bytes: Buffer): number {
  return crc32(bytes.subarray(HEADER_BYTES), crc32(bytes.subarray(0, 1 + SECRET_BYTES)));
}
