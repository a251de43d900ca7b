import { hash } from "node:crypto";
import { requestIdReused, SessiondError } from "../errors.js";
import type { Keyring } from "./keyring.js";

// Requests that a caller may repeat, such as a creation: the store remembers what the first call
// made, sealed.

/** How long a repetition is recognised, as the contract says. */
export const REQUEST_KEPT_FOR_MS = 10 * 60_000;

/** What the store remembers of a request. Stored sealed only. */
export interface RequestRecord {
  /**
   * Tells a repetition from another request under the same id. Stored sealed: a reader who knows
   * all fields but one could guess the last one from it.
   */
  readonly fingerprint: string;
  /** The secret of the token that the first call answered. Empty if it made none. */
  readonly secret: Uint8Array;
}

/** The JSON inside a sealed record. */
type RecordJson = [fingerprint: string, secret: string];

/**
 * The name of a request in the store, at most 172 characters. The caller's name may be long and
 * hold any character, so it is hashed. The hash has a fixed length, so two callers share no key.
 */
export function requestKey(caller: string, requestId: string): string {
  return `${hash("sha256", caller, "base64url")}:${requestId}`;
}

/** Seals a record, bound to its purpose: a text that is unique for the request. */
export function sealRequest(
  keyring: Keyring,
  purpose: string,
  { fingerprint, secret }: RequestRecord,
): Uint8Array {
  const json: RecordJson = [fingerprint, Buffer.from(secret).toString("base64url")];
  return keyring.seal(Buffer.from(JSON.stringify(json)), sealingContext(purpose));
}

/**
 * The token's secret in a request's record. Throws REQUEST_ID_REUSED if that request asked for
 * something else, and SESSION_UNREADABLE if the record does not open.
 */
export function secretOfRepetition(
  keyring: Keyring,
  purpose: string,
  record: Uint8Array,
  fingerprint: string,
): Uint8Array {
  const [first, secret] = parseRecord(keyring.unseal(record, sealingContext(purpose)));
  if (first !== fingerprint) throw requestIdReused();
  return Buffer.from(secret, "base64url");
}

function parseRecord(plaintext: Uint8Array): RecordJson {
  try {
    // The seal is authentic, so sealRequest wrote this.
    return JSON.parse(Buffer.from(plaintext).toString());
  } catch (cause) {
    throw new SessiondError(
      "SESSION_UNREADABLE",
      "the request's record cannot be read: it was written by another version",
      { cause },
    );
  }
}

/** Differs from every session's context: that begins with another word. */
function sealingContext(purpose: string): Uint8Array {
  return Buffer.from(`request\0${purpose}`);
}
