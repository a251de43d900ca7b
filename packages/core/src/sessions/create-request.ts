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
  /** A repetition within 10 minutes answers the same session and token. */
  readonly requestId?: string;
  /** The caller's name. Two callers never share a request id. */
  readonly caller?: string;
}

/** How long a repetition is recognised, as the contract says. */
export const REQUEST_KEPT_FOR_MS = 10 * 60_000;

/** What the store remembers of a request to create a session. Stored sealed only. */
export interface CreateRequestRecord {
  /**
   * Tells a repetition from another request under the same id. Stored sealed: a reader who knows
   * all fields but one could guess the last one from it.
   */
  readonly fingerprint: string;
  /** The secret of the session's token. A repetition gets the same token. */
  readonly secret: Uint8Array;
}

/** The JSON inside a sealed record. */
type RecordJson = [fingerprint: string, secret: string];

/**
 * The name of a request in the store, at most 172 characters. The caller's name may be long and
 * hold any character, so it is hashed. The hash has a fixed length, so two callers share no key.
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
 * The token's secret in a request's record. Throws REQUEST_ID_REUSED if that request asked for
 * something else, and SESSION_UNREADABLE if the record does not open.
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
    // The seal is authentic, so sealCreateRequest wrote this.
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
function sealingContext(key: string): Uint8Array {
  return Buffer.from(`request\0${key}`);
}

/** The content of the requested session. Throws INVALID_ARGUMENT if no session can hold it. */
export function contentOf(input: CreateSession): SessionContent {
  const { displayName = "", roles = [], client = {}, data = {} } = input;
  checkText("display_name", displayName, LIMITS.displayNameBytes);
  checkRoles("roles", roles);
  checkClient("client", client);
  checkData("data", data);
  return { displayName, roles, client: { ip: "", userAgent: "", device: "", ...client }, data };
}

/**
 * The fingerprint of the request as it was sent, without the server's defaults: these may change
 * between two tries. An absent content field counts as an empty one.
 */
export function fingerprintOfRequest(input: CreateSession, content: SessionContent): string {
  const { userId, sessionId = null, idleTimeoutMs = null, lifetimeMs = null } = input;
  const { displayName, roles, data } = content;
  const { ip, userAgent, device } = content.client;
  const contentJson = { displayName, roles, client: { ip, userAgent, device }, data };
  return fingerprintOf([userId, sessionId, idleTimeoutMs, lifetimeMs, contentJson]);
}
