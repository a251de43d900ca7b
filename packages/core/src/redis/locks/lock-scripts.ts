import { FENCE_RETENTION_MS } from "../../locks/lock-store.js";
import { RECLAIM_SLACK_MS, toScript } from "../sessions/scripts.js";

/**
 * How long a lock that has become free is kept for the first of those who wait. Enough
 * for it to hear of that and to ask; in vain only where its server is gone.
 */
const KEPT_FOR_MS = 250;
/** How many have a place. Of one server only the next one asks, so they are as many as servers. */
const MAX_PLACES = 100;

/**
 * What all scripts of locks share. All keys of a lock are in one slot.
 *
 *     KEYS[1]  lock:{name}        HASH: lock_id ('' once released), fencing_token, expire_time
 *     KEYS[2]  lock_fence:{name}  STRING: the last fencing token
 *     KEYS[3]  lock_queue:{name}  HASH: lock id → '<since when it waits> <when its place lapses>'
 *     ARGV[1]  the time in ms, or '' for the time of Redis
 *     ARGV[2]  lock id
 *
 * A lock is held while it has a lock id and now < expire_time. TTLs only give memory back.
 */
const PRELUDE = `
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

-- %d, because tostring would write a large number with an exponent.
local function int(number) return string.format('%d', number) end

local lock_id = ARGV[2]
local lock = redis.call('HMGET', KEYS[1], 'lock_id', 'fencing_token', 'expire_time')
local expire_time = tonumber(lock[3] or 0)
local is_held = lock[1] and lock[1] ~= '' and now < expire_time
local is_own = is_held and lock[1] == lock_id

local function lease_until(time)
  redis.call('HSET', KEYS[1], 'expire_time', int(time))
  redis.call('PEXPIREAT', KEYS[1], int(time + ${RECLAIM_SLACK_MS}))
end
`;

/** Frees, or hardly grows: runs also when Redis is out of memory. */
const ALLOW_OOM = "#!lua flags=allow-oom";

/**
 * Takes a lock.
 *
 *     ARGV[3]  how long the lease lasts, in ms
 *     ARGV[4]  how long to keep a place for this lock id where it is refused, in ms, or 0
 *
 * Answers `{ 1, fencing token, expire time, now }`, or `{ 0, '', when it will be
 * free, now }` where another has it, or it is kept for another.
 *
 * The token is the last one plus one, but never below the time in ms. So it grows even
 * when the last one is lost: when it was forgotten after the retention, or in a
 * failover to a replica that lacked it. A token is ahead of the time only where a lock was
 * acquired more than once in a ms, again and again, and never by more than
 * what passes until its last token is forgotten.
 *
 * A lock that has become free is kept for a moment for the one who has waited longest.
 * One that does not come in time has lost its place; so each server, whose waiters
 * ask one after another, is passed over by each other one at most once, however much
 * nearer that is.
 */
export const ACQUIRE_LOCK = toScript(`#!lua
${PRELUDE}
local ttl, queue_for = tonumber(ARGV[3]), tonumber(ARGV[4])
if is_own then return { 1, lock[2], int(expire_time), int(now) } end

local first, first_since, own_since
local last_since = 0
local places = redis.call('HGETALL', KEYS[3])
local count = 0
for i = 1, #places, 2 do
  local since, lapse = string.match(places[i + 1], '^(%d+) (%d+)$')
  since = tonumber(since)
  if now >= tonumber(lapse) then
    redis.call('HDEL', KEYS[3], places[i])
  else
    count = count + 1
    last_since = math.max(last_since, since)
    if places[i] == lock_id then own_since = since end
    if not first or since < first_since then first, first_since = places[i], since end
  end
end

local kept_until = expire_time + ${KEPT_FOR_MS}
local is_kept = first and first ~= lock_id and lock[3] and now < kept_until
if is_held or is_kept then
  if queue_for > 0 and (own_since or count < ${MAX_PLACES}) then
    local lapse = now + queue_for
    -- Those who came in the same ms are in order, too.
    local since = own_since or math.max(now, last_since + 1)
    redis.call('HSET', KEYS[3], lock_id, int(since) .. ' ' .. int(lapse))
    redis.call('PEXPIREAT', KEYS[3], int(lapse + ${RECLAIM_SLACK_MS}))
  end
  return { 0, '', int(is_held and expire_time or kept_until), int(now) }
end

if first then redis.call('HDEL', KEYS[3], lock_id, first) end
local token = int(math.max(tonumber(redis.call('GET', KEYS[2]) or 0) + 1, now))
redis.call('HSET', KEYS[1], 'lock_id', lock_id, 'fencing_token', token)
lease_until(now + ttl)
redis.call('SET', KEYS[2], token, 'PXAT', int(now + ttl + ${FENCE_RETENTION_MS}))
return { 1, token, int(now + ttl), int(now) }
`);

/** Lets a lease end ARGV[3] ms from now. Answers `{ fencing token, expire time, now }`, or nil. */
export const RENEW_LOCK = toScript(`${ALLOW_OOM}
${PRELUDE}
if not is_own then return nil end
lease_until(now + tonumber(ARGV[3]))
redis.call('PEXPIREAT', KEYS[2], int(now + tonumber(ARGV[3]) + ${FENCE_RETENTION_MS}))
return { lock[2], int(now + tonumber(ARGV[3])), int(now) }
`);

/**
 * Gives a lock back, and a place among those who wait. ARGV[3] is the channel that is
 * told of it, ARGV[4] the name. Answers how many locks it gave back.
 */
export const RELEASE_LOCK = toScript(`${ALLOW_OOM}
${PRELUDE}
redis.call('HDEL', KEYS[3], lock_id)
if not is_own then return 0 end
if redis.call('EXISTS', KEYS[3]) == 1 then
  -- What is left says since when the lock is free, and so until when it is kept for another.
  redis.call('HSET', KEYS[1], 'lock_id', '')
  lease_until(now)
else
  redis.call('DEL', KEYS[1])
end
-- Only a hint, and users of Redis may lack the permission: that must not undo the rest.
redis.pcall('PUBLISH', ARGV[3], ARGV[4])
return 1
`);

/**
 * Answers `{ fencing token, expire time, now }` of a lock that is held, by ARGV[2]
 * unless that is ''; or nil.
 */
export const GET_LOCK = toScript(`#!lua flags=no-writes
${PRELUDE}
if not is_held or (lock_id ~= '' and not is_own) then return nil end
return { lock[2], int(expire_time), int(now) }
`);
