import type { CreationPolicy } from "./create-session.js";

/** The defaults of sessions, the limits of what a call may ask for, and what a theft does. */
export interface SessionPolicy extends CreationPolicy {
  /** Whether a replaced token that is presented also revokes its session. */
  readonly onTokenReuse: "record" | "revoke";
}

/** 30 minutes idle, 24 hours in all, at most a year. 10 sessions per user, evicting the oldest. */
export const DEFAULT_SESSION_POLICY: SessionPolicy = {
  idleTimeoutMs: 30 * 60_000,
  lifetimeMs: 24 * 3_600_000,
  maxLifetimeMs: 365 * 24 * 3_600_000,
  maxSessionsPerUser: 10,
  policy: "evict_oldest",
  onTokenReuse: "record",
};
