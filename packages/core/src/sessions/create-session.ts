import { invalidArgument, sessionNotFound } from "../errors.js";
import { checkDuration } from "../validation.js";
import { type CreateSession, contentOf, fingerprintOfRequest } from "./create-request.js";
import { idOfCredential, isCredentialHash } from "./credential.js";
import type { Notice } from "./descriptions.js";
import type { Keyring } from "./keyring.js";
import {
  REQUEST_KEPT_FOR_MS,
  requestKey,
  sealRequest,
  secretOfRepetition,
} from "./once-request.js";
import type { Session, SessionContent } from "./session.js";
import { checkChosenId, checkRequestId, checkUserId } from "./session-checks.js";
import { generateSessionId, partitionOfUser } from "./session-id.js";
import { sealContent, toSession, unsealSession } from "./session-record.js";
import type { NewSession, SessionKey, SessionLimit, SessionStore } from "./session-store.js";
import { formatSessionToken, generateSecret, hashSecret } from "./session-token.js";

/** The defaults of a new session, and the limits of what a call may ask for. */
export interface CreationPolicy extends SessionLimit {
  readonly idleTimeoutMs: number;
  readonly lifetimeMs: number;
  /** The maximum of both timeouts. */
  readonly maxLifetimeMs: number;
}

/** The result of `Sessions.create`. */
export interface CreatedSession {
  readonly session: Session;
  /** Empty if the session moved in with a credential of its own. */
  readonly token: string;
  /** Oldest first. */
  readonly evictedSessionIds: readonly string[];
  /** What was changed in the request's descriptions. */
  readonly notices: readonly Notice[];
}

const NO_SECRET = new Uint8Array();

/** Starts a session, as `Sessions.create` does. */
export async function createSession(
  store: SessionStore,
  keyring: Keyring,
  policy: CreationPolicy,
  input: CreateSession,
): Promise<CreatedSession> {
  const idleTimeoutMs = input.idleTimeoutMs ?? policy.idleTimeoutMs;
  const lifetimeMs = input.lifetimeMs ?? policy.lifetimeMs;
  checkUserId("user_id", input.userId);
  checkDuration("idle_timeout", idleTimeoutMs, policy.maxLifetimeMs);
  checkDuration("lifetime", lifetimeMs, policy.maxLifetimeMs);
  if (input.sessionId !== undefined) checkChosenId("session_id", input.sessionId);
  if (input.requestId !== undefined) checkRequestId("request_id", input.requestId);
  checkMovedIn(input);
  const { content, notices } = contentOf(input);

  const { userId, tokenHash, movedIn } = input;
  const partition = partitionOfUser(userId);
  const id = tokenHash
    ? idOfCredential(tokenHash)
    : (input.sessionId ?? generateSessionId(partition));
  const secret = tokenHash ? NO_SECRET : generateSecret();
  const newSession = {
    key: { partition, id },
    userId,
    record: sealContent(keyring, { id, userId }, content),
    tokenHash: tokenHash ?? hashSecret(secret),
    idleTimeoutMs,
    lifetimeMs,
    ...(movedIn && { movedIn }),
  };
  if (input.requestId !== undefined) {
    const key = requestKey(input.caller ?? "", input.requestId);
    const fingerprint = fingerprintOfRequest(input);
    const stores = { store, keyring, policy };
    const created = await createOnce(stores, key, fingerprint, newSession, content, secret);
    return { ...created, notices };
  }
  const { session, evictedIds } = await store.create(newSession, policy);
  const created = createdSession(newSession.key, toSession(session, content), secret, evictedIds);
  return { ...created, notices };
}

async function createOnce(
  { store, keyring, policy }: { store: SessionStore; keyring: Keyring; policy: SessionLimit },
  key: string,
  fingerprint: string,
  newSession: NewSession,
  content: SessionContent,
  secret: Uint8Array,
): Promise<Omit<CreatedSession, "notices">> {
  const record = sealRequest(keyring, key, { fingerprint, secret });
  const request = { key, record, keptForMs: REQUEST_KEPT_FOR_MS };
  const creation = await store.createOnce(request, newSession, policy);
  const { evictedIds } = creation;
  if (!("repeated" in creation)) {
    const session = toSession(creation.session, content);
    return createdSession(newSession.key, session, secret, evictedIds);
  }
  const firstSecret = secretOfRepetition(keyring, key, creation.repeated, fingerprint);
  if (creation.session === undefined) throw sessionNotFound();
  // The fingerprint is equal, so the session is the same user's and in the same partition.
  const firstKey = { partition: newSession.key.partition, id: creation.session.id };
  const session = unsealSession(keyring, creation.session);
  return createdSession(firstKey, session, firstSecret, evictedIds);
}

function createdSession(
  { partition, id }: SessionKey,
  session: Session,
  secret: Uint8Array,
  evictedSessionIds: readonly string[],
): Omit<CreatedSession, "notices"> {
  const token = secret.length > 0 ? formatSessionToken({ partition, sessionId: id, secret }) : "";
  return { session, token, evictedSessionIds };
}

/** Throws INVALID_ARGUMENT unless what a session moves in with fits together. */
function checkMovedIn({ tokenHash, sessionId, movedIn = {} }: CreateSession): void {
  const { createTimeMs, authenticateTimeMs, expireTimeMs } = movedIn;
  for (const [field, timeMs] of [
    ["create_time", createTimeMs],
    ["authenticate_time", authenticateTimeMs],
    ["expire_time", expireTimeMs],
  ] as const) {
    if (timeMs === undefined) continue;
    if (tokenHash === undefined) throw invalidArgument(field, "expected only with token_hash");
    if (!Number.isSafeInteger(timeMs) || timeMs < 0) {
      throw invalidArgument(field, "expected a time since 1970, in whole milliseconds");
    }
  }
  if (tokenHash === undefined) return;
  if (!isCredentialHash(tokenHash)) {
    throw invalidArgument("token_hash", `expected a SHA-256 of 32 bytes, got ${tokenHash.length}`);
  }
  if (sessionId !== undefined) {
    throw invalidArgument("session_id", "expected none with token_hash, from which the id follows");
  }
}
