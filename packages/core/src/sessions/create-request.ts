import { checkText, LIMITS } from "../validation.js";
import { fingerprintOf } from "./fingerprint.js";
import type { JsonObject, SessionClient, SessionContent } from "./session.js";
import { checkClient, checkData, checkRoles } from "./session-checks.js";
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
  const { tokenHash, movedIn = {} } = input;
  const { displayName, roles, data } = content;
  const { ip, userAgent, device } = content.client;
  const contentJson = { displayName, roles, client: { ip, userAgent, device }, data };
  const moved = tokenHash && [Buffer.from(tokenHash).toString("hex"), movedIn];
  return fingerprintOf([userId, sessionId, idleTimeoutMs, lifetimeMs, contentJson, moved ?? null]);
}
