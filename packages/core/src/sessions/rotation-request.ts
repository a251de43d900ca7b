import { hash } from "node:crypto";

/** The request of a session's newest rotation, which a caller may repeat. */
export interface RotationRequest {
  /** From then on, a repetition is not recognised. In ms since the Unix epoch. */
  readonly expireTimeMs: number;
  /** As `hashRequestKey` makes it. */
  readonly keyHash: Uint8Array;
  /** The hash of the token that the rotation replaced. */
  readonly replacedHash: Uint8Array;
  /** The sealed answer to a repetition. */
  readonly record: Uint8Array;
}

const TIME_BYTES = 8;
const HASH_BYTES = 32;
const RECORD_AT = TIME_BYTES + 2 * HASH_BYTES;

/** Keys differ in length, their hashes do not. */
export function hashRequestKey(key: string): Buffer {
  return hash("sha256", key, "buffer");
}

/**
 * Writes a request as stores keep it with its session: the time as a big-endian double, which Lua in
 * Redis can write too, the two hashes, and the record.
 */
export function encodeRotationRequest(request: RotationRequest): Uint8Array {
  const time = Buffer.alloc(TIME_BYTES);
  time.writeDoubleBE(request.expireTimeMs);
  return Buffer.concat([time, request.keyHash, request.replacedHash, request.record]);
}

/** Reads what `encodeRotationRequest` wrote. Undefined for empty bytes. */
export function decodeRotationRequest(encoded: Uint8Array): RotationRequest | undefined {
  if (encoded.length === 0) return undefined;
  const bytes = Buffer.from(encoded.buffer, encoded.byteOffset, encoded.length);
  return {
    expireTimeMs: bytes.readDoubleBE(0),
    keyHash: bytes.subarray(TIME_BYTES, TIME_BYTES + HASH_BYTES),
    replacedHash: bytes.subarray(TIME_BYTES + HASH_BYTES, RECORD_AT),
    record: bytes.subarray(RECORD_AT),
  };
}
