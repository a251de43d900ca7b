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
 * `highest` bound the creation time as ZRANGEBYSCORE takes them; entries count after `afterTimeMs`
 * and `afterId`, or all where these are ''.
 *
 * Answers '<number of the key> <creation time> <length of the id> <id> …', by key: `count` entries or
 * all. One text costs less than an array, and ids may contain any byte.
 *
 * Redis serves nobody else meanwhile, so the reading is bounded. It reads an even share of each
 * index first, and doubles the share of those indexes whose whole share is in the answer. So no
 * round reads more than twice `count`, and the number of rounds is at most log2(`count`). For 256
 * entries of 256 indexes it reads about a thousand entries and at most 4,400. Where many sessions
 * have the time of the cursor, it searches for the first after the cursor.
 */
export const READ_IN_CREATION_ORDER = defineScript({
  flags: "no-writes",
  keys: [],
  args: ["order", "count", "lowest", "highest", "afterTimeMs", "afterId"],
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

-- Whether an id comes before another one of the same time.
local function comes_first(a, b)
  if is_descending then return precedes(b, a) end
  return precedes(a, b)
end

local function is_after(id, time)
  return time > after or (time == after and comes_first(after_id, id))
end

-- How many entries of each key are before the range, because they are not after the cursor.
local skipped = {}

-- From the first after the cursor: walking to the end of the last read costs more than a few entries
-- again.
local function read(n, length)
  -- Redis finds an end of a sorted set at once, but has to walk to a score.
  if is_whole then return call(by_rank, KEYS[n], '0', length, 'WITHSCORES') end
  return call(by_score, KEYS[n], first, last, 'WITHSCORES', 'LIMIT', int(skipped[n]), length)
end

-- The number of entries of a key that are not after the cursor; at least the 'low' first are not.
local function count_before(n, low)
  local function is_before(rank)
    local entry = call(by_score, KEYS[n], first, last, 'WITHSCORES', 'LIMIT', int(rank), '1')
    return entry[1] and not is_after(entry[1], sign * entry[2])
  end
  local high = 2 * low
  while is_before(high) do low, high = high + 1, 2 * high end
  while low < high do
    local middle = math.floor((low + high) / 2)
    if is_before(middle) then low = middle + 1 else high = middle end
  end
  return low
end

-- The entries of each key that were read, and how many of them count.
local chunks, counts = {}, {}
-- The times of all entries that count, and the known time and id at which the answer ends.
local times, size, edge, edge_id = {}, 0, math.huge, nil
-- The keys that may have more for the answer, and how many of their entries are read and to be
-- read.
local open, from, to = {}, 0, math.ceil(most / #KEYS)
for n = 1, #KEYS do open[n], counts[n], skipped[n] = n, 0, 0 end

-- Of too many entries with the time of the edge, the last id that the answer has room for. It is not
-- after the one that was found before.
local function find_edge_id(known)
  local before, ids = 0, {}
  while before < most and times[before + 1] < edge do before = before + 1 end
  if times[most + 1] ~= edge then return nil end
  for _, chunk in ipairs(chunks) do
    for i = 1, #chunk, 2 do
      local id, time = chunk[i], sign * chunk[i + 1]
      if time > edge or (time == edge and known and comes_first(known, id)) then break end
      if time == edge and is_after(id, time) then ids[#ids + 1] = id end
    end
  end
  table.sort(ids, comes_first)
  return ids[most - before]
end

while #open > 0 do
  local full, last_times, last_ids = {}, {}, {}
  -- Format it once: Redis converts every number argument.
  local length = int(is_whole and to - 1 or to)
  for _, n in ipairs(open) do
    local chunk, time, id, before = read(n, length), nil, nil, size
    if from == 0 and #chunk == 2 * to and not is_after(chunk[2 * to - 1], sign * chunk[2 * to]) then
      skipped[n] = count_before(n, to)
      chunk = read(n, length)
    end
    for i = 2 * from + 2, #chunk, 2 do
      id, time = chunk[i - 1], sign * chunk[i]
      if time > edge then break end
      if is_after(id, time) then
        size = size + 1
        times[size] = time
      end
    end
    chunks[n], counts[n] = chunk, counts[n] + size - before
    if #chunk == 2 * to then
      full[#full + 1] = n
      last_times[#full], last_ids[#full] = time, id
    end
  end
  table.sort(times)
  local known = times[most] == edge and edge_id
  edge = times[most] or math.huge
  edge_id = size > most and find_edge_id(known)
  open = {}
  for i, n in ipairs(full) do
    local is_open = last_times[i] < edge or
      (last_times[i] == edge and (not edge_id or comes_first(last_ids[i], edge_id)))
    if is_open and counts[n] < most then open[#open + 1] = n end
  end
  from, to = to, 2 * to
end

local found, at = {}, 0
for n, chunk in ipairs(chunks) do
  for i = 1, #chunk, 2 do
    local id, time = chunk[i], sign * chunk[i + 1]
    if time > edge or (time == edge and edge_id and comes_first(edge_id, id)) then break end
    if is_after(id, time) then
      found[at + 1], found[at + 2], found[at + 3], found[at + 4] = n, chunk[i + 1], #id, id
      at = at + 4
    end
  end
end
return table.concat(found, ' ')`,
  parse: (reply) => reply as Buffer,
});
