import { brokenChanges } from "./broken/broken-changes.js";
import { brokenCreation } from "./broken/broken-creation.js";
import { brokenEvents } from "./broken/broken-events.js";
import { brokenFences } from "./broken/broken-fences.js";
import { brokenListing } from "./broken/broken-listing.js";
import { brokenReading } from "./broken/broken-reading.js";
import { brokenRequests } from "./broken/broken-requests.js";
import { brokenResealing } from "./broken/broken-resealing.js";
import { brokenRevocation } from "./broken/broken-revocation.js";
import type { BrokenSessionStore } from "./broken/broken-session-store.js";
import { brokenSweeping } from "./broken/broken-sweeping.js";

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
