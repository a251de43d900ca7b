import { defineScript } from "../connection/script.js";

/**
 * Counts active sessions. The keys are any number of sessions:{p}, or one user_sessions:{p}:<id>.
 *
 * It subtracts the ended sessions from all. Redis finds the length and the low end of a sorted set
 * at once, and the few ended sessions are at that end. It would have to walk to any other score.
 */
export const COUNT_ACTIVE = defineScript({
  flags: "no-writes",
  keys: [],
  args: [],
  body: `
local now, active = int(read_clock()), 0
for _, key in ipairs(KEYS) do
  active = active + redis.call('ZCARD', key) - redis.call('ZCOUNT', key, '-inf', now)
end
return active`,
  parse: Number,
});

/**
 * Reads the first entries of several indexes by creation time, as if they were one.
 *
 * The keys are any number of sessions_by_create_time:{p}. `order` is 'asc' or 'desc'; `lowest` and
 * `highest` bound the creation time as ZRANGEBYSCORE takes them; entries count after `afterTimeMs`,
 * or all where it is ''.
 *
 * Answers the text '<number of the key> <id> <creation time> …', by key: `count` entries or all,
 * and all other entries with the time `afterTimeMs` or the last entry's time. The caller puts
 * entries of one time in order, because Lua compares ids by locale and Redis does not.
 *
 * Redis serves nobody else meanwhile, so the reading is bounded. It reads an even share of each
 * index first, and doubles the share of those indexes whose whole share is in the answer. So no
 * round reads more than twice `count`, and the number of rounds is at most log2(`count`). For 256
 * entries of 256 indexes it reads about a thousand entries and at most 4,400, besides entries of
 * the same millisecond.
 */
export const READ_IN_CREATION_ORDER = defineScript({
  flags: "no-writes",
  keys: [],
  args: ["order", "count", "lowest", "highest", "afterTimeMs"],
  body: `
local call = redis.call
local is_descending, most = order == 'desc', tonumber(count)
-- With this sign, times grow from one entry to the next in either order.
local sign = is_descending and -1 or 1
local after = after_time_ms ~= '' and sign * after_time_ms or -math.huge

local is_whole = lowest == '-inf' and highest == '+inf'
local by_rank = is_descending and 'ZREVRANGE' or 'ZRANGE'
local by_score = is_descending and 'ZREVRANGEBYSCORE' or 'ZRANGEBYSCORE'
local first, last = lowest, highest
if is_descending then first, last = highest, lowest end

-- Always from the start: walking to the end of the last read costs more than a few entries again.
local function read(key, length)
  -- Redis finds an end of a sorted set at once, but has to walk to a score.
  if is_whole then return call(by_rank, key, '0', length, 'WITHSCORES') end
  return call(by_score, key, first, last, 'WITHSCORES', 'LIMIT', '0', length)
end

-- The entries of each key that were read, and how many of them count.
local chunks, counts = {}, {}
-- The times of all entries that count, and the known time at which the answer ends.
local times, size, edge = {}, 0, math.huge
-- The keys that may have more for the answer, and how many of their entries are read and to be
-- read.
local open, from, to = {}, 0, math.ceil(most / #KEYS)
for n = 1, #KEYS do open[n], counts[n] = n, 0 end
while #open > 0 do
  local full, last_times = {}, {}
  -- Format it once: Redis converts every number argument.
  local length = int(is_whole and to - 1 or to)
  for _, n in ipairs(open) do
    local chunk, time, before = read(KEYS[n], length), nil, size
    for i = 2 * from + 2, #chunk, 2 do
      time = sign * chunk[i]
      if time > edge then break end
      if time > after then
        size = size + 1
        times[size] = time
      end
    end
    chunks[n], counts[n] = chunk, counts[n] + size - before
    if #chunk == 2 * to then
      full[#full + 1] = n
      last_times[#full] = time
    end
  end
  table.sort(times)
  edge = times[most] or math.huge
  open = {}
  for i, n in ipairs(full) do
    if last_times[i] <= edge and counts[n] < most then open[#open + 1] = n end
  end
  from, to = to, 2 * to
end

local found, at = {}, 0
for n, chunk in ipairs(chunks) do
  for i = 1, #chunk, 2 do
    if sign * chunk[i + 1] > edge then break end
    found[at + 1], found[at + 2], found[at + 3] = n, chunk[i], chunk[i + 1]
    at = at + 3
  end
end
return table.concat(found, ' ')`,
  parse: (reply) => reply as Buffer,
});
