import type { SessionEvent } from "./session-event.js";

/** A change of a session, as its event tells it. */
export type SessionChange = Pick<
  SessionEvent,
  "type" | "sessionId" | "userId" | "version" | "reason"
>;

/** Who makes changes. */
export interface Author {
  /** The `changedBy` of their events. At most 256 bytes; "" if no call makes the changes. */
  readonly name: string;
  /**
   * Told each change once, as soon as the store has made it: also if the call fails later, because no
   * replica confirmed it. A change that got no answer is not told. Must not throw.
   */
  changed(change: SessionChange): void;
}

/** The author of what no call makes. */
export const NOBODY: Author = { name: "", changed: () => {} };
