import { defineScript } from "../connection/script.js";

/**
 * Counts active sessions. The keys are any number of sessions:{p}, or one
 * user_sessions:{p}:<user id>.
 *
 * It takes the ended sessions from all, rather than to count those above now: Redis finds
 * the length and the low end of a sorted set at once, and ended sessions are there and soon
 * swept. Any other score it has to walk down to.
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
 * The keys are any number of sessions_by_create_time:{p}. `order` is 'asc' or 'desc'; `lowest`
 * and `highest` bound the creation time as ZRANGEBYSCORE takes them; entries count after
 * `afterTimeMs`, or all where it is ''.
 *
 * Answers the text '<number of the key> <id> <creation time> …', by key. It has as many
 * entries as were asked for or all there are, and besides them all others of the time after
 * which entries count, and others of the last one's time: which of those come first is for
 * the caller to say, since Lua compares ids as the locale says and not as Redis does.
 *
 * Redis serves nobody else meanwhile, so what it reads is bounded. First it is an even share
 * of each index, then twice as much of those whose share is among the first entries as a
 * whole, and so on: these have never given more than was asked for, so no round reads more
 * than twice that, and there are no more rounds than it can be halved. For 256 entries of
 * 256 indexes it is about a thousand entries, and at most 4,400. Those of one millisecond
 * come on top.
 */
export const READ_IN_CREATION_ORDER = defineScript({
  flags: "no-writes",
  keys: [],
  args: ["order", "count", "lowest", "highest", "afterTimeMs"],
  body: `
local call = redis.call
local is_descending, most = order == 'desc', tonumber(count)
-- By their sign, times grow from one entry to the next in either order.
local sign = is_descending and -1 or 1
local after = after_time_ms ~= '' and sign * after_time_ms or -math.huge

local is_whole = lowest == '-inf' and highest == '+inf'
local by_rank = is_descending and 'ZREVRANGE' or 'ZRANGE'
local by_score = is_descending and 'ZREVRANGEBYSCORE' or 'ZRANGEBYSCORE'
local first, last = lowest, highest
if is_descending then first, last = highest, lowest end

-- Always from the start: walking down to where the last read ended costs more than a few entries again.
local function read(key, length)
  -- Redis finds an end of a sorted set at once, a score only by walking down to it.
  if is_whole then return call(by_rank, key, '0', length, 'WITHSCORES') end
  return call(by_score, key, first, last, 'WITHSCORES', 'LIMIT', '0', length)
end

-- What was read of each key, and how many entries of it count.
local chunks, counts = {}, {}
-- The times of all entries that count, and the one at which the answer ends, as far as is known.
local times, size, edge = {}, 0, math.huge
-- The keys that may have more for the answer, how many entries of them are known, and how many are to be.
local open, from, to = {}, 0, math.ceil(most / #KEYS)
for n = 1, #KEYS do open[n], counts[n] = n, 0 end
while #open > 0 do
  local full, last_times = {}, {}
  -- As a text once, since every number costs Redis a conversion.
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
