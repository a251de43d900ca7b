import { hash } from "node:crypto";
import { requestIdReused, SessiondError } from "../errors.js";
import { checkText, LIMITS } from "../validation.js";
import { fingerprintOf } from "./fingerprint.js";
import type { Keyring } from "./keyring.js";
import type { JsonObject, SessionClient, SessionContent } from "./session.js";
import { checkClient, checkData, checkRoles } from "./session-checks.js";

/** What `Sessions.create` takes. The limits stand at CreateSessionRequest in the contract. */
export interface CreateSession {
  readonly userId: string;
  readonly sessionId?: string;
  readonly displayName?: string;
  readonly roles?: readonly string[];
  readonly client?: Partial<SessionClient>;
  readonly data?: JsonObject;
  readonly idleTimeoutMs?: number;
  readonly lifetimeMs?: number;
  /** Makes a repetition within 10 minutes answer the same session and token. */
  readonly requestId?: string;
  /** Who asks. Two callers never share a request id. */
  readonly caller?: string;
}

/** How long a repeated request is recognised, as the contract says. */
export const REQUEST_KEPT_FOR_MS = 10 * 60_000;

/** What is remembered of a request to create a session. Stored sealed only. */
export interface CreateRequestRecord {
  /**
   * Of all that was asked for: tells a repetition from another request under the same id. Must
   * not stand in a store unsealed: a reader who knows all fields but one could guess that one.
   */
  readonly fingerprint: string;
  /** The secret of the session's token, which a repetition is answered with. */
  readonly secret: Uint8Array;
}

/** The JSON inside a sealed record. */
type RecordJson = [fingerprint: string, secret: string];

/**
 * Names a request in the store: at most 172 characters. The caller is hashed,
 * because its name may be long and hold anything, and comes first at a fixed
 * length, so that no two callers share a key.
 */
export function createRequestKey(caller: string, requestId: string): string {
  return `${hash("sha256", caller, "base64url")}:${requestId}`;
}

/** Seals a record, bound to its key. */
export function sealCreateRequest(
  keyring: Keyring,
  key: string,
  { fingerprint, secret }: CreateRequestRecord,
): Uint8Array {
  const json: RecordJson = [fingerprint, Buffer.from(secret).toString("base64url")];
  return keyring.seal(Buffer.from(JSON.stringify(json)), sealingContext(key));
}

/**
 * The token's secret of the request that a record is of. Throws REQUEST_ID_REUSED
 * where that asked for something else, and SESSION_UNREADABLE where the record
 * does not open.
 */
export function secretOfRepetition(
  keyring: Keyring,
  key: string,
  record: Uint8Array,
  fingerprint: string,
): Uint8Array {
  const [first, secret] = parseRecord(keyring.unseal(record, sealingContext(key)));
  if (first !== fingerprint) throw requestIdReused();
  return Buffer.from(secret, "base64url");
}

function parseRecord(plaintext: Uint8Array): RecordJson {
  try {
    // Authenticated: only what sealCreateRequest wrote comes this far.
    return JSON.parse(Buffer.from(plaintext).toString());
  } catch (cause) {
    throw new SessiondError(
      "SESSION_UNREADABLE",
      "the request's record cannot be read: it was written by another version",
      { cause },
    );
  }
}

/** Keys have no NUL, and a session's context begins otherwise. */
function sealingContext(key: string): Uint8Array {
  return Buffer.from(`request\0${key}`);
}

/** The content of the session that is asked for. Throws INVALID_ARGUMENT for what no session can hold. */
export function contentOf(input: CreateSession): SessionContent {
  const { displayName = "", roles = [], client = {}, data = {} } = input;
  checkText("display_name", displayName, LIMITS.displayNameBytes);
  checkRoles("roles", roles);
  checkClient("client", client);
  checkData("data", data);
  return { displayName, roles, client: { ip: "", userAgent: "", device: "", ...client }, data };
}

/**
 * The fingerprint of all that was asked for, not of what it comes to: the defaults may change between
 * two tries. The content is complete, so that an absent field counts as an empty one.
 */
export function fingerprintOfRequest(input: CreateSession, content: SessionContent): string {
  const { userId, sessionId = null, idleTimeoutMs = null, lifetimeMs = null } = input;
  const { displayName, roles, data } = content;
  const { ip, userAgent, device } = content.client;
  const contentJson = { displayName, roles, client: { ip, userAgent, device }, data };
  return fingerprintOf([userId, sessionId, idleTimeoutMs, lifetimeMs, contentJson]);
}
