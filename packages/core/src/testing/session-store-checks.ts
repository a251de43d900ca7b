import { changeChecks } from "./checks/change-checks.js";
import { createChecks } from "./checks/create-checks.js";
import { eventChecks } from "./checks/event-checks.js";
import { eventLogChecks } from "./checks/event-log-checks.js";
import { expiryChecks } from "./checks/expiry-checks.js";
import { fenceChecks } from "./checks/fence-checks.js";
import { listChecks } from "./checks/list-checks.js";
import { modelChecks } from "./checks/model-checks.js";
import { onceChecks } from "./checks/once-checks.js";
import { readChecks } from "./checks/read-checks.js";
import { resealChecks } from "./checks/reseal-checks.js";
import { revokeChecks } from "./checks/revoke-checks.js";
import { sweepChecks } from "./checks/sweep-checks.js";
import type { SessionStoreCheck } from "./session-store-check.js";

/** The contract of `SessionStore`, promise by promise. */
export const sessionStoreChecks: readonly SessionStoreCheck[] = [
  ...createChecks,
  ...onceChecks,
  ...readChecks,
  ...expiryChecks,
  ...changeChecks,
  ...fenceChecks,
  ...resealChecks,
  ...revokeChecks,
  ...listChecks,
  ...eventChecks,
  ...eventLogChecks,
  ...sweepChecks,
  ...modelChecks,
];
