import { FENCE_RETENTION_MS } from "../../locks/lock-store.js";
import { defineScript, RECLAIM_SLACK_MS } from "../connection/script.js";

/**
 * How long a lock that has become free is kept for the first of those who wait. Enough
 * for it to hear of that and to ask; in vain only where its server is gone.
 */
const KEPT_FOR_MS = 250;
/** How many have a position. Of one server only the next one asks, so they are as many as servers. */
const MAX_POSITIONS = 100;

/**
 * The keys of a lock, all in one slot:
 *
 *     lock   lock:{name}        HASH: lock_id ('' once released), fencing_token, expire_time
 *     fence  lock_fence:{name}  STRING: the last fencing token
 *     queue  lock_queue:{name}  HASH: lock id → '<since when it waits> <when its position lapses>'
 *
 * A lock is held while it has a lock id and now < expire_time. TTLs only give memory back.
 */
const KEYS = ["lock", "fence", "queue"] as const;

/** A lease as scripts answer it. */
export interface LeaseReply {
  readonly fencingToken: number;
  readonly expireTimeMs: number;
  readonly timeMs: number;
}

const PRELUDE = `
local now = read_clock()
local lease = redis.call('HMGET', lock, 'lock_id', 'fencing_token', 'expire_time')
local expire_time = tonumber(lease[3] or 0)
local is_held = lease[1] and lease[1] ~= '' and now < expire_time
local is_own = is_held and lease[1] == lock_id

local function lease_until(time)
  redis.call('HSET', lock, 'expire_time', int(time))
  redis.call('PEXPIREAT', lock, int(time + ${RECLAIM_SLACK_MS}))
end
`;

/**
 * Takes a lock for `ttlMs`, or where it is refused keeps a position for this lock id for
 * `queueForMs`, which may be 0. Answers the lease, or when the lock will be free where another
 * has it, or it is kept for another.
 *
 * The token is the last one plus one, but never below the time in ms. So it grows even
 * when the last one is lost: when it was forgotten after the retention, or in a
 * failover to a replica that lacked it. A token is ahead of the time only where a lock was
 * acquired more than once in a ms, again and again, and never by more than
 * what passes until its last token is forgotten.
 *
 * A lock that has become free is kept for a moment for the one who has waited longest.
 * One that does not come in time has lost its position; so each server, whose waiters
 * ask one after another, is passed over by each other one at most once, however much
 * nearer that is.
 */
export const ACQUIRE_LOCK = defineScript({
  flags: "deny-oom",
  keys: KEYS,
  args: ["lockId", "ttlMs", "queueForMs"],
  body: `${PRELUDE}
local ttl, queue_for = tonumber(ttl_ms), tonumber(queue_for_ms)
if is_own then return { 1, lease[2], int(expire_time), int(now) } end

local first, first_since, own_since
local last_since = 0
local positions = redis.call('HGETALL', queue)
local count = 0
for i = 1, #positions, 2 do
  local since, lapse = string.match(positions[i + 1], '^(%d+) (%d+)$')
  since = tonumber(since)
  if now >= tonumber(lapse) then
    redis.call('HDEL', queue, positions[i])
  else
    count = count + 1
    last_since = math.max(last_since, since)
    if positions[i] == lock_id then own_since = since end
    if not first or since < first_since then first, first_since = positions[i], since end
  end
end

local kept_until = expire_time + ${KEPT_FOR_MS}
local is_kept = first and first ~= lock_id and lease[3] and now < kept_until
if is_held or is_kept then
  if queue_for > 0 and (own_since or count < ${MAX_POSITIONS}) then
    local lapse = now + queue_for
    -- Those who came in the same ms are in order, too.
    local since = own_since or math.max(now, last_since + 1)
    redis.call('HSET', queue, lock_id, int(since) .. ' ' .. int(lapse))
    redis.call('PEXPIREAT', queue, int(lapse + ${RECLAIM_SLACK_MS}))
  end
  return { 0, '', int(is_held and expire_time or kept_until), int(now) }
end

if first then redis.call('HDEL', queue, lock_id, first) end
local token = int(math.max(tonumber(redis.call('GET', fence) or 0) + 1, now))
redis.call('HSET', lock, 'lock_id', lock_id, 'fencing_token', token)
lease_until(now + ttl)
redis.call('SET', fence, token, 'PXAT', int(now + ttl + ${FENCE_RETENTION_MS}))
return { 1, token, int(now + ttl), int(now) }`,
  parse: (reply) => {
    const [isAcquired, ...lease] = reply as [number, ...Buffer[]];
    return { isAcquired: isAcquired === 1, ...toLease(lease) };
  },
});

/** Lets a lease end `ttlMs` from now. Answers the lease, or undefined where `lockId` does not have it. */
export const RENEW_LOCK = defineScript({
  flags: "allow-oom",
  keys: KEYS,
  args: ["lockId", "ttlMs"],
  body: `${PRELUDE}
if not is_own then return nil end
lease_until(now + tonumber(ttl_ms))
redis.call('PEXPIREAT', fence, int(now + tonumber(ttl_ms) + ${FENCE_RETENTION_MS}))
return { lease[2], int(now + tonumber(ttl_ms)), int(now) }`,
  parse: parseLease,
});

/**
 * Gives a lock back, and a position among those who wait. `channel` is told of it, by the `name`
 * of the lock. Answers whether `lockId` had the lock.
 */
export const RELEASE_LOCK = defineScript({
  flags: "allow-oom",
  keys: KEYS,
  args: ["lockId", "channel", "name"],
  body: `${PRELUDE}
redis.call('HDEL', queue, lock_id)
if not is_own then return 0 end
if redis.call('EXISTS', queue) == 1 then
  -- What is left says since when the lock is free, and so until when it is kept for another.
  redis.call('HSET', lock, 'lock_id', '')
  lease_until(now)
else
  redis.call('DEL', lock)
end
-- Only a hint, and users of Redis may lack the permission: that must not undo the rest.
redis.pcall('PUBLISH', channel, name)
return 1`,
  parse: (reply) => reply === 1,
});

/** Answers the lease of a lock that is held, by `lockId` unless that is ''; or undefined. */
export const GET_LOCK = defineScript({
  flags: "no-writes",
  keys: KEYS,
  args: ["lockId"],
  body: `${PRELUDE}
if not is_held or (lock_id ~= '' and not is_own) then return nil end
return { lease[2], int(expire_time), int(now) }`,
  parse: parseLease,
});

function parseLease(reply: unknown): LeaseReply | undefined {
  return reply === null ? undefined : toLease(reply as Buffer[]);
}

function toLease([fencingToken, expireTime, time]: readonly Buffer[]): LeaseReply {
  return {
    fencingToken: Number(fencingToken),
    expireTimeMs: Number(expireTime),
    timeMs: Number(time),
  };
}
