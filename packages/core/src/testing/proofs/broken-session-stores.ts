import { brokenChanges } from "./broken-changes.js";
import { brokenCreation } from "./broken-creation.js";
import { brokenEvents } from "./broken-events.js";
import { brokenFences } from "./broken-fences.js";
import { brokenListing } from "./broken-listing.js";
import { brokenReading } from "./broken-reading.js";
import { brokenRequests } from "./broken-requests.js";
import { brokenResealing } from "./broken-resealing.js";
import { brokenRevocation } from "./broken-revocation.js";
import type { BrokenSessionStore } from "./broken-session-store.js";
import { brokenSweeping } from "./broken-sweeping.js";

/**
 * Stores that each break one promise of the contract, and the checks that must
 * see it. They prove that the suite catches what it should.
 */
export const brokenSessionStores: readonly BrokenSessionStore[] = [
  ...brokenCreation,
  ...brokenRequests,
  ...brokenReading,
  ...brokenChanges,
  ...brokenFences,
  ...brokenResealing,
  ...brokenRevocation,
  ...brokenListing,
  ...brokenEvents,
  ...brokenSweeping,
];
