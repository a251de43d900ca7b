import type { SessionChange, SessionEventType, SessionsAuthor } from "@sessiond/core";
import { callerKey } from "../auth/caller.js";
import type { Audit, AuditedCall } from "../observability/audit.js";
import type { AuditEvent } from "../observability/audit-table.js";

const EVENTS = {
  created: "session.created",
  updated: "session.updated",
  token_rotated: "session.token_rotated",
  token_reused: "session.token_reused",
  revoked: "session.revoked",
  evicted: "session.evicted",
} as const satisfies Record<SessionEventType, AuditEvent>;

/** The caller as the author of what a call changes, which goes to the audit. */
export class CallAuthor implements SessionsAuthor {
  readonly #call: AuditedCall;
  readonly #audit: Audit | undefined;

  constructor(call: AuditedCall, audit: Audit | undefined) {
    this.#call = call;
    this.#audit = audit;
  }

  get name(): string {
    return this.#call.values.get(callerKey)?.subject ?? "";
  }

  changed({ type, sessionId, userId, version, reason }: SessionChange): void {
    const fields = {
      session_id: sessionId,
      user_id: userId,
      version,
      ...(reason !== undefined && { reason }),
    };
    this.#audit?.record(EVENTS[type], fields, this.#call);
  }

  limitReached(userId: string, limit: number): void {
    this.#audit?.record("session.limit_reached", { user_id: userId, limit }, this.#call);
  }
}
