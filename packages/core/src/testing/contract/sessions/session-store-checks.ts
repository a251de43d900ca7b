import { listChecks } from "../checks.js";
import { authorChecks } from "./author-checks.js";
import { changeChecks, resealChecks } from "./change-checks.js";
import { createChecks } from "./create-checks.js";
import { eventChecks } from "./event-checks.js";
import { eventLogChecks } from "./event-log-checks.js";
import { expiryChecks, sweepChecks } from "./expiry-checks.js";
import { expiryCountChecks } from "./expiry-count-checks.js";
import { fenceChecks } from "./fence-checks.js";
import { listingChecks } from "./list-checks.js";
import { modelChecks } from "./model-checks.js";
import { namespaceChecks } from "./namespace-checks.js";
import { onceChecks } from "./once-checks.js";
import { readChecks } from "./read-checks.js";
import { revokeChecks } from "./revoke-checks.js";
import { rotationRequestChecks } from "./rotation-request-checks.js";
import type { SessionStoreCheck } from "./session-store-check.js";
import { reuseChecks, tokenChecks } from "./token-checks.js";

/** The contract of `SessionStore`, promise by promise. */
export const sessionStoreChecks: readonly SessionStoreCheck[] = listChecks(
  createChecks,
  onceChecks,
  readChecks,
  expiryChecks,
  changeChecks,
  tokenChecks,
  rotationRequestChecks,
  reuseChecks,
  fenceChecks,
  resealChecks,
  revokeChecks,
  listingChecks,
  eventChecks,
  authorChecks,
  eventLogChecks,
  sweepChecks,
  expiryCountChecks,
  namespaceChecks,
  modelChecks,
);
