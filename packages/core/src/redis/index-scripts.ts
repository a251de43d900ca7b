import { toScript } from "./scripts.js";

/**
 * Counts active sessions.
 *
 *     KEYS     any number of sessions:{p}, or a user_sessions:{p}:<user id>
 *     ARGV[1]  the time in ms
 *
 * It takes those that have ended from all, rather than to count those above now: Redis finds
 * the length and the low end of a sorted set at once, and what has ended is there and soon
 * swept. Any other score it has to walk down to.
 */
export const COUNT_ACTIVE = toScript(`#!lua flags=no-writes
local now, active = ARGV[1], 0
for _, key in ipairs(KEYS) do
  active = active + redis.call('ZCARD', key) - redis.call('ZCOUNT', key, '-inf', now)
end
return active
`);
