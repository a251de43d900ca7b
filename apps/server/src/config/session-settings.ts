import { DEFAULT_RATE_LIMITS, parseDuration, parseRateLimitPolicies } from "@sessiond/core";
import { parseChoice } from "./choice.js";
import { parseCount } from "./quantity.js";
import type { Setting } from "./setting.js";

const LIMIT_POLICIES = ["evict_oldest", "reject"] as const;
const MAX_SESSIONS_PER_USER = 1000;

/** How long sessions live, how many a user may have, and the policies of rate limits. */
export const SESSION_SETTINGS = {
  idleTimeout: {
    group: "Sessions and rate limits",
    env: "SESSIOND_IDLE_TIMEOUT",
    flag: "idle-timeout",
    placeholder: "DURATION",
    default: "30m",
    help:
      "how long a session lives without activity, unless its creator says otherwise; at most the " +
      "lifetime",
    parse: parseDuration,
  },
  lifetime: {
    group: "Sessions and rate limits",
    env: "SESSIOND_LIFETIME",
    flag: "lifetime",
    placeholder: "DURATION",
    default: "24h",
    help: "how long a session lives in all, unless its creator says otherwise",
    parse: parseDuration,
  },
  maxLifetime: {
    group: "Sessions and rate limits",
    env: "SESSIOND_MAX_LIFETIME",
    flag: "max-lifetime",
    placeholder: "DURATION",
    default: "365d",
    help: "the longest idle timeout and lifetime that a session's creator may ask for",
    parse: parseDuration,
  },
  maxSessionsPerUser: {
    group: "Sessions and rate limits",
    env: "SESSIOND_MAX_SESSIONS_PER_USER",
    flag: "max-sessions-per-user",
    placeholder: "COUNT",
    default: "10",
    help: `how many active sessions a user may have; 1 to ${MAX_SESSIONS_PER_USER}`,
    parse: (text) => parseCount(text, { min: 1, max: MAX_SESSIONS_PER_USER }),
  },
  limitPolicy: {
    group: "Sessions and rate limits",
    env: "SESSIOND_LIMIT_POLICY",
    flag: "limit-policy",
    placeholder: "POLICY",
    default: "evict_oldest",
    help:
      "what gives way to a user's limit: the oldest session (`evict_oldest`) or the new one " +
      "(`reject`)",
    parse: (text) => parseChoice(text, LIMIT_POLICIES),
  },
  onTokenReuse: {
    group: "Sessions and rate limits",
    env: "SESSIOND_ON_TOKEN_REUSE",
    flag: "on-token-reuse",
    placeholder: "POLICY",
    default: "record",
    help:
      "what a replaced token does to its session when somebody presents it: `record` appends an " +
      "event, `revoke` also revokes the session, so anybody who has a replaced token can end it",
    parse: (text) => parseChoice(text, ["record", "revoke"] as const),
  },
  retention: {
    group: "Sessions and rate limits",
    env: "SESSIOND_RETENTION",
    flag: "retention",
    placeholder: "DURATION",
    default: "10m",
    help: "how long ended sessions can be listed, and revoked ids stay taken",
    parse: parseDuration,
  },
  rateLimits: {
    group: "Sessions and rate limits",
    env: "SESSIOND_RATE_LIMITS",
    flag: "rate-limits",
    placeholder: "NAME: …; …",
    default: DEFAULT_RATE_LIMITS,
    help:
      'policies that CheckRateLimit counts by, such as `"login: 10 per 15m, 50 per 24h; ' +
      'signup: 3 per 1h (count refused)"`; the other option is `(allow when unavailable)`',
    parse: parseRateLimitPolicies,
  },
} as const satisfies Record<string, Setting>;
