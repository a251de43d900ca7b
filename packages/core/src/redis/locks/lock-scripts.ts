import { FENCE_RETENTION_MS } from "../../locks/lock-store.js";
import { defineScript, RECLAIM_SLACK_MS } from "../connection/script.js";

/** How long a free lock is kept for the first in the queue, which must hear of it and ask. */
const KEPT_FOR_MS = 250;
/** The length of the queue. Only the first waiter of each server has a position in it. */
const MAX_POSITIONS = 100;

/**
 * The keys of a lock, all in one slot:
 *
 *     lock   lock:{name}        HASH: lock_id ('' once released), fencing_token, expire_time
 *     fence  lock_fence:{name}  STRING: the last fencing token
 *     queue  lock_queue:{name}  HASH: lock id → '<since when it waits> <when its position lapses>'
 *
 * A lock is held while it has a lock id and now < expire_time. TTLs only reclaim memory.
 */
const KEYS = ["lock", "fence", "queue"] as const;

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
 * Takes a lock for `ttlMs`. If the lock is held, or kept for another, it gives the lock id a queue
 * position for `queueForMs`, which may be 0, and answers when the lock will be free.
 *
 * The token is the last token plus one, but never below the time in ms. So it grows even if the
 * last token is lost: forgotten after the retention, or missing on a replica that took over. A
 * token can be ahead of the time only after several acquisitions in one ms.
 *
 * A free lock is kept for a moment for the lock id that has waited longest. If it does not ask in
 * time, it loses its position. So each server is overtaken by each other server at most once, even
 * if that server is closer to Redis.
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
    -- Arrivals in the same ms keep their order.
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
local kept_from = math.max(now + ttl, tonumber(token))
redis.call('SET', fence, token, 'PXAT', int(kept_from + ${FENCE_RETENTION_MS}))
return { 1, token, int(now + ttl), int(now) }`,
  parse: (reply) => {
    const [isAcquired, ...lease] = reply as [number, ...Buffer[]];
    return { isAcquired: isAcquired === 1, ...toLease(lease) };
  },
});

/** Lets the lease of `lockId` end `ttlMs` from now. Answers the lease, or undefined. */
export const RENEW_LOCK = defineScript({
  flags: "allow-oom",
  keys: KEYS,
  args: ["lockId", "ttlMs"],
  body: `${PRELUDE}
if not is_own then return nil end
lease_until(now + tonumber(ttl_ms))
local kept_from = math.max(now + tonumber(ttl_ms), tonumber(lease[2]))
redis.call('PEXPIREAT', fence, int(kept_from + ${FENCE_RETENTION_MS}))
return { lease[2], int(now + tonumber(ttl_ms)), int(now) }`,
  parse: parseLease,
});

/**
 * Gives up a lock and a queue position, and publishes the lock's `name` on `channel`. Answers
 * whether `lockId` had the lock.
 */
export const RELEASE_LOCK = defineScript({
  flags: "allow-oom",
  keys: KEYS,
  args: ["lockId", "channel", "name"],
  body: `${PRELUDE}
redis.call('HDEL', queue, lock_id)
if not is_own then return 0 end
if redis.call('EXISTS', queue) == 1 then
  -- The rest says since when the lock is free, and so until when it is kept for the queue.
  redis.call('HSET', lock, 'lock_id', '')
  lease_until(now)
else
  redis.call('DEL', lock)
end
-- A hint. The Redis user may lack the permission, and that must not undo the rest.
redis.pcall('PUBLISH', channel, name)
return 1`,
  parse: (reply) => reply === 1,
});

/** Answers the lease of a held lock, or undefined. With a `lockId`, only if it has the lock. */
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
