import { defineScript } from "../connection/script.js";
import { definePartitionScript } from "./partition-scripts.js";
import { fromStoredId } from "./stored-id.js";

/** The namespaces of the partition. */
const KEYS = ["namespaces"] as const;

/**
 * Counts at most `limit` sessions that have expired, and makes their scores negative, so that no
 * sweep counts them again. Removes as many sessions whose retention is over, and as many events.
 * Corrects the index entry of a session that has not ended. Forgets a namespace that has nothing
 * left in the partition. In the namespace "" it answers the other namespaces of the partition.
 */
export const SWEEP = definePartitionScript({
  flags: "allow-oom",
  keys: KEYS,
  args: ["namespace", "limit"],
  body: `
local most = tonumber(limit)
local ids = redis.call('ZRANGEBYSCORE', sessions, '(0', int(now), 'LIMIT', 0, most)
local uncounted = #ids
local over = redis.call('ZRANGEBYSCORE', sessions, '-' .. int(cutoff), '0', 'LIMIT', 0, most)
for i, id in ipairs(over) do ids[uncounted + i] = id end
local found = {}
for i, id in ipairs(ids) do
  found[i] = read_facts(probed(session_prefix .. id)) or false
  if found[i] then probed(user_prefix .. found[i].user_id) end
end

local expired, removed, healed = 0, {}, 0
for i, id in ipairs(ids) do
  local session = found[i]
  local user_key = session and user_prefix .. session.user_id
  local revoke_time = session and session.revoke_time
  -- Redis itself removes a session long after its retention, if no sweep came in time.
  local ended = session and (revoke_time or session.expire_time) or 0
  local is_counted = i <= uncounted and not revoke_time and ended <= now
  if is_counted then expired = expired + 1 end
  if ended > cutoff then
    index(id, user_key, (revoke_time or ended <= now) and -ended or ended)
    if not is_counted then healed = healed + 1 end
  else
    redis.call('DEL', session_prefix .. id)
    redis.call('ZREM', sessions, id)
    redis.call('ZREM', by_create_time, id)
    if user_key then redis.call('ZREM', user_key, id) end
    removed[#removed + 1] = id
  end
end

-- The stream is removed with its last event, so that no empty key remains.
local oldest, first_kept = redis.call('XRANGE', events, '-', '+', 'COUNT', most + 1), nil
for i = 1, math.min(most, #oldest) do
  if tonumber(oldest[i][2][10]) >= cutoff then
    first_kept = oldest[i][1]
    break
  end
end
if not first_kept and #oldest > most then first_kept = oldest[most + 1][1] end
if first_kept then
  redis.call('XTRIM', events, 'MINID', first_kept)
elseif #oldest > 0 then
  redis.call('DEL', events)
end
local more = uncounted == most or #over == most or (first_kept ~= nil and #oldest > most and first_kept == oldest[most + 1][1])
local others = {}
if namespace == '' then
  others = redis.call('SMEMBERS', namespaces)
elseif redis.call('EXISTS', sessions, by_create_time, events) == 0 then
  redis.call('SREM', namespaces, namespace)
end
return { int(now), more and 1 or 0, expired, removed, healed, others }`,
  parse: (reply) => {
    const [time, more, expired, removed, healed, others] = reply as [
      time: Buffer,
      more: number,
      expired: number,
      removed: Buffer[],
      healed: number,
      others: Buffer[],
    ];
    return {
      timeMs: Number(time),
      mayHaveMore: more === 1,
      expired,
      removedIds: removed.map(fromStoredId),
      healed,
      otherNamespaces: others.map(String),
    };
  },
});

/**
 * Finds the namespaces of a partition that `SWEEP` would change. The keys are, for each of them,
 * sessions, sessions by creation time, and events. Answers 1 or 0 for each. Most have nothing to
 * sweep, and to look costs a twentieth of a sweep.
 */
export const FIND_WORK = defineScript({
  flags: "no-writes",
  keys: [],
  args: ["retentionMs"],
  body: `
local now = read_clock()
local cutoff = int(math.max(0, now - tonumber(retention_ms)))
local found = {}
for i = 1, #KEYS, 3 do
  local sessions, by_create_time, events = KEYS[i], KEYS[i + 1], KEYS[i + 2]
  local ended = redis.call('ZRANGEBYSCORE', sessions, '-' .. cutoff, int(now), 'LIMIT', '0', '1')
  local oldest = redis.call('XRANGE', events, '-', '+', 'COUNT', '1')[1]
  local has_work = #ended > 0 or (oldest and tonumber(oldest[2][10]) < tonumber(cutoff))
    or redis.call('EXISTS', sessions, by_create_time, events) == 0
  found[#found + 1] = has_work and 1 or 0
end
return found`,
  parse: (reply) => (reply as readonly number[]).map((has) => has === 1),
});

/**
 * Compares sessions with the indexes and corrects the indexes. The further arguments are pairs of
 * an id and the user whose index names it, or ''. Answers how many index entries it changed.
 */
export const HEAL = definePartitionScript({
  flags: "allow-oom",
  keys: KEYS,
  args: ["namespace"],
  body: `
local found, has_sessions = {}, false
for i = first_more, #ARGV, 2 do
  local id, user_id = ARGV[i], ARGV[i + 1]
  local session = read_facts(probed(session_prefix .. id))
  if session then
    has_sessions = true
    probed(user_prefix .. session.user_id)
  end
  if user_id ~= '' then probed(user_prefix .. user_id) end
  found[#found + 1] = { id = id, user_id = user_id, session = session }
end

local healed = 0
local function remove(key, id) healed = healed + redis.call('ZREM', key, id) end
local function put(key, id, score)
  if tonumber(redis.call('ZSCORE', key, id) or 'nan') == score then return end
  redis.call('ZADD', key, int(score), id)
  healed = healed + 1
end
for _, suspect in ipairs(found) do
  local id, session = suspect.id, suspect.session
  local owner = session and session.user_id
  if suspect.user_id ~= '' and suspect.user_id ~= owner then remove(user_prefix .. suspect.user_id, id) end
  if owner then
    local deadline = session.revoke_time or session.expire_time
    -- An expired session's score tells whether it was counted, and nothing else does.
    local is_counted = tonumber(redis.call('ZSCORE', sessions, id) or 'nan') == -deadline
    local score = (session.revoke_time or is_counted) and -deadline or deadline
    put(sessions, id, score)
    -- A login also removes old entries from the user's index.
    if deadline > cutoff then
      put(user_prefix .. owner, id, score)
      keep_until(user_prefix .. owner, deadline)
    end
    put(by_create_time, id, session.create_time)
  else
    remove(sessions, id)
    remove(by_create_time, id)
  end
end
if has_sessions and namespace ~= '' then healed = healed + redis.call('SADD', namespaces, namespace) end
return healed`,
  parse: Number,
});
