const DAY_MS = 24 * 3_600_000;

/** The secret that signs the cookie of express-session. Yours is no part of the code. */
export const SECRET = process.env["SESSION_SECRET"] ?? "keyboard cat";

/** The `maxAge` of the old cookie. */
export const IDLE_TIMEOUT_MS = 14 * DAY_MS;

/** The old sessions lived as long as they were used. sessiond's defaults are shorter. */
export const TIMES = { idleTimeoutMs: IDLE_TIMEOUT_MS, lifetimeMs: 90 * DAY_MS };

/** One name everywhere, so that moved sessions have it on localhost, too. */
export const COOKIE = { name: "__Host-session", allowPlainLocalhost: false };
