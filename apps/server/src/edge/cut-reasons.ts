/** Why the server closes a connection or resets a stream by itself. */
export const CUT_REASONS = [
  "connections_full",
  "silent",
  "idle",
  "slow_request",
  "endless_request",
  "answer_not_taken",
  "unauthenticated_calls",
  "resets",
] as const;
export type CutReason = (typeof CUT_REASONS)[number];
