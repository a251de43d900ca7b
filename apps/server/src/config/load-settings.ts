import { parseRateLimitWindows } from "@sessiond/core";
import { parseCount } from "./quantity.js";
import type { Setting } from "./setting.js";

const MAX_CALLS = 1_000_000;

/** How many calls the server takes, and how many of them from one caller. */
export const LOAD_SETTINGS = {
  maxCallsInFlight: {
    group: "Load",
    env: "SESSIOND_MAX_CALLS_IN_FLIGHT",
    flag: "max-calls-in-flight",
    placeholder: "COUNT",
    default: "1000",
    help:
      "how many calls a server works on at a time, on both ports; it lowers the number by itself " +
      "while calls wait for each other",
    details:
      "Calls beyond it fail at once with `OVERLOADED` and are told when to try again. First those " +
      "that create, list and count (at 70 % of the number), then the others (at 85 %), then " +
      "VerifySession and its batches. Calls that revoke, or release a lock, and health checks never do. " +
      "Watches and waiting AcquireLock calls have bounds of their own.\n\n" +
      "The server lowers the number down to 100 while its event loop is more than 40 ms late, and " +
      "raises it again within two seconds. " +
      "[Why it is done so](adr/0019-shedding-at-the-door.md).",
    parse: (text) => parseCount(text, { min: 1, max: MAX_CALLS }),
  },
  maxCallsPerCaller: {
    group: "Load",
    env: "SESSIOND_MAX_CALLS_PER_CALLER",
    flag: "max-calls-per-caller",
    placeholder: "COUNT",
    help: "how many of these calls may be of one caller (default: as many as are still free)",
    details:
      "A caller is the subject of an access token, of one issuer and in one namespace. Its fair share " +
      "holds with this setting, too: alone it gets a half of the calls, each of two gets a third, " +
      "and there is always room for another.",
    parse: (text) => parseCount(text, { min: 1, max: MAX_CALLS }),
  },
  callerQuota: {
    group: "Load",
    env: "SESSIOND_CALLER_QUOTA",
    flag: "caller-quota",
    placeholder: "COUNT per DURATION,…",
    help: "how often one caller may call, such as `200 per 1s, 5000 per 1m` (default: as often as it likes)",
    details:
      "So many calls may come at once; then calls are allowed at this rate. Each server counts for " +
      "itself, so callers of three servers may call three times as often. A call beyond fails with " +
      "`OVERLOADED`, except those that revoke or release a lock.",
    parse: parseRateLimitWindows,
  },
  maxWatchesPerCaller: {
    group: "Load",
    env: "SESSIOND_MAX_WATCHES_PER_CALLER",
    flag: "max-watches-per-caller",
    placeholder: "COUNT",
    default: "1000",
    help:
      "how many watches one caller may have on a server, where its namespace has 1000 and all " +
      "together have 2000",
    parse: (text) => parseCount(text, { min: 1, max: MAX_CALLS }),
  },
  maxLockWaitersPerCaller: {
    group: "Load",
    env: "SESSIOND_MAX_LOCK_WAITERS_PER_CALLER",
    flag: "max-lock-waiters-per-caller",
    placeholder: "COUNT",
    default: "1000",
    help:
      "how many calls of one caller may wait for locks on a server, where those of its namespace are " +
      "10000 and all together 20000; beyond it a lock is still given if it is free",
    parse: (text) => parseCount(text, { min: 1, max: MAX_CALLS }),
  },
  maxNamesPerCaller: {
    group: "Load",
    env: "SESSIOND_MAX_NAMES_PER_CALLER",
    flag: "max-names-per-caller",
    placeholder: "COUNT",
    default: "100000",
    help:
      "how many different names of locks and keys of rate limits one caller may use in an hour, on " +
      "each server: the store keeps them for a while",
    parse: (text) => parseCount(text, { min: 1, max: 10 * MAX_CALLS }),
  },
} as const satisfies Record<string, Setting>;
