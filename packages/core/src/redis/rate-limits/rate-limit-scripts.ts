import { defineScript } from "../connection/script.js";

/** How much longer than needed a key lives: a TTL starts slightly before the script's time. */
const TTL_SLACK_MS = 1_000;

/** The state of one window. */
export interface WindowReply {
  readonly used: number;
  /** How long until the attempt has room in it. Rounded up: too early would be wrong. */
  readonly waitMs: number;
  /** When the window is empty. */
  readonly resetTimeMs: number;
}

export interface RateLimitReply {
  readonly isAllowed: boolean;
  readonly windows: readonly WindowReply[];
}

export const US_PER_MS = 1_000;
const NUMBERS_PER_WINDOW = 3;

/**
 * Both scripts have the key rate_limit:<policy>:<key>, the `cost` of the attempt, and two further
 * arguments for each window: its limit and its length in microseconds. The answer,
 * `{ allowed, used, wait, reset, … }`, is in microseconds.
 *
 * The key is a ZSET of the attempts that count, by time. A member is `<total>:<cost>`: the total is
 * the cost of this and all earlier attempts. So the cost within a window is a difference of two
 * totals. Totals have leading zeros, so attempts of one microsecond stay in order.
 *
 * The time of a key never goes back: if the clock was set back, it stands still at the newest
 * attempt.
 */
const PRELUDE = `
local own_cost = tonumber(cost)

local function parse(member)
  local total, own = string.match(member, '^(%d+):(%d+)$')
  return tonumber(total), tonumber(own)
end

local windows, longest, greatest_limit = {}, 0, 0
for i = first_more, #ARGV, 2 do
  local window = { limit = tonumber(ARGV[i]), length = tonumber(ARGV[i + 1]) }
  table.insert(windows, window)
  longest = math.max(longest, window.length)
  greatest_limit = math.max(greatest_limit, window.limit)
end

local clock = read_clock_us()
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
  if window.used + own_cost > window.limit then has_room = false end
end

-- The rank of the oldest attempt with at least this total.
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

-- There is room once enough attempts have left the window.
local function wait_for(window)
  if window.used + own_cost <= window.limit then return 0 end
  local rank = rank_from(total - window.limit + own_cost)
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

/** The answer to an attempt, without counting it. */
export const GET_RATE_LIMIT = defineScript({
  flags: "no-writes",
  keys: ["key"],
  args: ["cost"],
  body: `${PRELUDE}
return answer()`,
  parse: parseReply,
});

/**
 * Counts an attempt if there is room, or if refused attempts count too. Then it removes attempts
 * that can change no answer any more: those that have left all windows, and those older than
 * attempts that fill the greatest limit. An attempt that does not count removes nothing: it does
 * not hold the key's time, so a clock that is set back can bring older attempts back into a window.
 */
export const CHECK_RATE_LIMIT = defineScript({
  flags: "deny-oom",
  keys: ["key"],
  args: ["cost", "countRefused"],
  body: `${PRELUDE}
if has_room or count_refused == '1' then
  redis.call('ZREMRANGEBYSCORE', key, '-inf', int(now - longest))
  total, newest = total + own_cost, now
  redis.call('ZADD', key, int(now), string.format('%016d:%d', total, own_cost))
  for _, window in ipairs(windows) do window.used = window.used + own_cost end
  if parse(redis.call('ZRANGE', key, 0, 0)[1]) <= total - greatest_limit then
    redis.call('ZREMRANGEBYRANK', key, 0, rank_from(total - greatest_limit + 1) - 1)
  end
end

-- A refused attempt mostly leaves the TTL alone too, so it costs replicas nothing.
local ttl = math.ceil((newest + longest - clock) / 1000)
if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, int(ttl + ${TTL_SLACK_MS})) end

return answer()`,
  parse: parseReply,
});

function parseReply(reply: unknown): RateLimitReply {
  const [allowed, ...numbers] = (reply as readonly (number | Buffer)[]).map(Number);
  const windows: WindowReply[] = [];
  for (let i = 0; i < numbers.length; i += NUMBERS_PER_WINDOW) {
    const [used = 0, wait = 0, reset = 0] = numbers.slice(i, i + NUMBERS_PER_WINDOW);
    const waitMs = Math.ceil(wait / US_PER_MS);
    windows.push({ used, waitMs, resetTimeMs: Math.ceil(reset / US_PER_MS) });
  }
  return { isAllowed: allowed === 1, windows };
}
