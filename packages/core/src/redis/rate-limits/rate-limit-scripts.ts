import { toScript } from "../sessions/scripts.js";

/**
 * How much longer than needed Redis keeps a key: it measures a TTL in whole ms, from a time a
 * little before the one that the script reads.
 */
const TTL_SLACK_MS = 1_000;

/**
 * What both scripts share.
 *
 *     KEYS[1]  rate_limit:<policy>:<key>
 *     ARGV[1]  the time in microseconds, or '' for the time of Redis
 *     ARGV[2]  the cost of the attempt
 *     ARGV[3]  '1' if it counts also where it is refused, else ''
 *     ARGV[4], ARGV[5], …  of each window, the limit and the length in microseconds
 *
 * The key is a ZSET of the attempts that count, by time. A member is
 * `<total>:<cost>`, where the total is the cost of this attempt and all before it. So the
 * cost of those within a window is a difference of two totals, however many they
 * are; and attempts of the same microsecond are in order, since totals have leading zeros.
 *
 * The time of a key never goes back: a clock that was set back stands still
 * at the newest attempt.
 *
 * Answers `{ allowed, used, wait, reset, … }`: of each window what is used of it, how
 * long until the attempt has room in it, and when it is empty; in microseconds.
 */
const PRELUDE = `
local key, cost = KEYS[1], tonumber(ARGV[2])

-- %d, because tostring would write a large number with an exponent.
local function int(number) return string.format('%d', number) end

local function read_clock()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function parse(member)
  local total, own = string.match(member, '^(%d+):(%d+)$')
  return tonumber(total), tonumber(own)
end

local windows, longest, greatest_limit = {}, 0, 0
for i = 4, #ARGV, 2 do
  local window = { limit = tonumber(ARGV[i]), length = tonumber(ARGV[i + 1]) }
  table.insert(windows, window)
  longest = math.max(longest, window.length)
  greatest_limit = math.max(greatest_limit, window.limit)
end

local clock = read_clock()
local now, total, newest = clock, 0, clock
local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
if last[1] then
  newest = tonumber(last[2])
  now = math.max(clock, newest)
  total = parse(last[1])
end

local has_room = true
for _, window in ipairs(windows) do
  local start = '(' .. int(now - window.length)
  local first = redis.call('ZRANGEBYSCORE', key, start, '+inf', 'LIMIT', 0, 1)[1]
  window.used = 0
  if first then
    local first_total, first_cost = parse(first)
    window.used = total - first_total + first_cost
  end
  if window.used + cost > window.limit then has_room = false end
end

-- The rank of the oldest attempt whose total is at least this.
local function rank_from(least)
  local low, high = 0, redis.call('ZCARD', key) - 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if parse(redis.call('ZRANGE', key, middle, middle)[1]) < least then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

-- There is room once so much has left the window that the attempt fits in.
local function wait_for(window)
  if window.used + cost <= window.limit then return 0 end
  local rank = rank_from(total - window.limit + cost)
  local last_to_leave = redis.call('ZRANGE', key, rank, rank, 'WITHSCORES')
  return tonumber(last_to_leave[2]) + window.length - clock
end

local function answer()
  local reply = { has_room and 1 or 0 }
  for _, window in ipairs(windows) do
    table.insert(reply, int(window.used))
    table.insert(reply, int(has_room and 0 or wait_for(window)))
    table.insert(reply, int(window.used > 0 and newest + window.length or clock))
  end
  return reply
end
`;

/** Says what an attempt would be answered. */
export const GET_RATE_LIMIT = toScript(`#!lua flags=no-writes
${PRELUDE}
return answer()
`);

/**
 * Counts an attempt if there is room, or if refused ones count as well, and then forgets
 * what is needless: what has left all windows, and what is older than attempts
 * that fill the greatest limit by themselves, since it can change no answer any more.
 * An attempt that does not count forgets nothing: it does not hold the key's time, and what
 * has left all windows now is within them again once the clock was set back.
 */
export const CHECK_RATE_LIMIT = toScript(`#!lua
${PRELUDE}
if has_room or ARGV[3] == '1' then
  redis.call('ZREMRANGEBYSCORE', key, '-inf', int(now - longest))
  total, newest = total + cost, now
  redis.call('ZADD', key, int(now), string.format('%016d:%d', total, cost))
  for _, window in ipairs(windows) do window.used = window.used + cost end
  if parse(redis.call('ZRANGE', key, 0, 0)[1]) <= total - greatest_limit then
    redis.call('ZREMRANGEBYRANK', key, 0, rank_from(total - greatest_limit + 1) - 1)
  end
end

-- Refused attempts mostly change nothing, the TTL neither, so that they cost replicas nothing.
local ttl = math.ceil((newest + longest - clock) / 1000)
if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, int(ttl + ${TTL_SLACK_MS})) end

return answer()
`);
