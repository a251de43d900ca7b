import { SessiondError } from "../errors.js";
import type { Keyring } from "./keyring.js";
import { type Session, type SessionContent, sessionEtag, sessionState } from "./session.js";
import type { StoredFacts, StoredSession } from "./session-store.js";

/**
 * Separates the texts of a sealed record: display name, IP address, user agent, device, each role, and
 * the data as JSON. UTF-8 never has this byte. JSON would take three bytes for each text.
 */
const SEPARATOR = 0xff;

/** Seals the content of a session, bound to its id and user. */
export function sealContent(
  keyring: Keyring,
  session: { readonly id: string; readonly userId: string },
  { displayName, roles, client, data }: SessionContent,
): Uint8Array {
  const texts = [displayName, client.ip, client.userAgent, client.device, ...roles];
  const parts = texts.flatMap((text) => [Buffer.from(text), Buffer.of(SEPARATOR)]);
  const plaintext = Buffer.concat([...parts, Buffer.from(JSON.stringify(data))]);
  return keyring.seal(plaintext, sealingContext(session));
}

/** Seals a record under the active key. Throws SESSION_UNREADABLE if it does not open. */
export function resealRecord(keyring: Keyring, stored: StoredSession): Uint8Array {
  const context = sealingContext(stored);
  return keyring.seal(keyring.unseal(stored.record, context), context);
}

/** Makes a session from its stored form. Throws SESSION_UNREADABLE if the record does not open. */
export function unsealSession(
  keyring: Keyring,
  stored: StoredFacts & { readonly record: Uint8Array },
): Session {
  return toSession(stored, unsealContent(keyring, stored));
}

/** The content of a session. Throws SESSION_UNREADABLE if the record does not open. */
export function unsealContent(
  keyring: Keyring,
  stored: StoredFacts & { readonly record: Uint8Array },
): SessionContent {
  return parseRecord(keyring.unseal(stored.record, sealingContext(stored)));
}

/** Makes a session from its facts and its content. */
export function toSession(facts: StoredFacts, content: SessionContent): Session {
  return {
    id: facts.id,
    userId: facts.userId,
    displayName: content.displayName,
    roles: content.roles,
    client: content.client,
    data: content.data,
    createTimeMs: facts.createTimeMs,
    authenticateTimeMs: facts.authenticateTimeMs,
    lastAccessTimeMs: facts.lastAccessTimeMs,
    idleTimeoutMs: facts.idleTimeoutMs,
    expireTimeMs: facts.expireTimeMs,
    absoluteExpireTimeMs: facts.absoluteExpireTimeMs,
    tokenCreateTimeMs: facts.tokenCreateTimeMs,
    version: facts.version,
    ...(facts.revokeTimeMs !== undefined && { revokeTimeMs: facts.revokeTimeMs }),
    ...(facts.revokeReason !== undefined && { revokeReason: facts.revokeReason }),
    state: sessionState(facts, facts.readTimeMs),
    etag: sessionEtag(facts),
  };
}

function parseRecord(plaintext: Uint8Array): SessionContent {
  const bytes = Buffer.from(plaintext.buffer, plaintext.byteOffset, plaintext.length);
  const texts: string[] = [];
  let start = 0;
  for (let end = bytes.indexOf(SEPARATOR); end >= 0; end = bytes.indexOf(SEPARATOR, start)) {
    texts.push(bytes.toString("utf8", start, end));
    start = end + 1;
  }
  try {
    const data = JSON.parse(bytes.toString("utf8", start));
    // The seal is authentic, so sealContent wrote these.
    const [displayName = "", ip = "", userAgent = "", device = "", ...roles] = texts;
    return { displayName, roles, client: { ip, userAgent, device }, data };
  } catch (cause) {
    throw new SessiondError(
      "SESSION_UNREADABLE",
      "the session's record cannot be read: it was written by another version",
      { cause },
    );
  }
}

/** No id or user id contains a NUL, so no two sessions share a context. */
function sealingContext(session: { readonly id: string; readonly userId: string }): Uint8Array {
  return Buffer.from(`session\0${session.id}\0${session.userId}`);
}
