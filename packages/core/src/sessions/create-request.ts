import { LIMITS } from "../validation.js";
import { keptClient, keptText, type Notice } from "./descriptions.js";
import { fingerprintOf } from "./fingerprint.js";
import type { JsonObject, SessionClient, SessionContent } from "./session.js";
import { checkData, checkRoles } from "./session-checks.js";
import type { MovedInTimes } from "./session-store.js";

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
  /** SHA-256 of the credential of a session that moves in, instead of a token of ours. */
  readonly tokenHash?: Uint8Array;
  /** The times of a session that moves in. Only with `tokenHash`. */
  readonly movedIn?: MovedInTimes;
  /** The caller's name. Two callers never share a request id. */
  readonly caller?: string;
}

/**
 * The content of the requested session, and what was changed in its descriptions. Throws
 * INVALID_ARGUMENT if no session can hold the rest.
 */
export function contentOf(input: CreateSession): {
  readonly content: SessionContent;
  readonly notices: readonly Notice[];
} {
  const { displayName, roles, client, data } = sentContent(input);
  checkRoles("roles", roles);
  checkData("data", data);
  const notices: Notice[] = [];
  const content = {
    displayName: keptText("display_name", displayName, LIMITS.displayNameBytes, notices),
    roles,
    client: { ...client, ...keptClient("client", client, notices) },
    data,
  };
  return { content, notices };
}

/** The content as it was sent. An absent field counts as an empty one. */
function sentContent(input: CreateSession): SessionContent {
  const { displayName = "", roles = [], client = {}, data = {} } = input;
  return { displayName, roles, client: { ip: "", userAgent: "", device: "", ...client }, data };
}

/**
 * The fingerprint of the request as it was sent. The server's defaults, and what it keeps of a
 * description, may change between two tries, as when the second one meets a newer server.
 */
export function fingerprintOfRequest(input: CreateSession): string {
  const { userId, sessionId = null, idleTimeoutMs = null, lifetimeMs = null } = input;
  const { tokenHash, movedIn = {} } = input;
  const { displayName, roles, client, data } = sentContent(input);
  const { ip, userAgent, device } = client;
  const contentJson = { displayName, roles, client: { ip, userAgent, device }, data };
  const moved = tokenHash && [Buffer.from(tokenHash).toString("hex"), movedIn];
  return fingerprintOf([userId, sessionId, idleTimeoutMs, lifetimeMs, contentJson, moved ?? null]);
}
