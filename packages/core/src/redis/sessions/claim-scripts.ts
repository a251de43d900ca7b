import { defineScript } from "../connection/script.js";

/**
 * Claims an id that a caller chose for a partition, so that no two users get it. `ref` is
 * session_ref:<id>, `ttlMs` how long to keep the claim, `nonce` random, so that no two claims are
 * alike, and `abandoned` the claim to take over from, or ''.
 *
 * A claim is `<partition> <time> <nonce>`. The id is claimed where it was free, was this
 * partition's already or was taken over; else the answer has the other partition's claim.
 */
export const CLAIM_ID = defineScript({
  flags: "deny-oom",
  keys: ["ref"],
  args: ["partition", "ttlMs", "nonce", "abandoned"],
  body: `
local now = int(read_clock())
local claim = redis.call('GET', ref)
local is_own = claim and string.sub(claim, 1, 2) == partition
if claim and not is_own and claim ~= abandoned then return { 0, claim, now } end
local ttl = math.max(tonumber(ttl_ms), redis.call('PTTL', ref))
claim = partition .. ' ' .. now .. ' ' .. nonce
redis.call('SET', ref, claim, 'PX', int(ttl))
return { 1, claim, now }`,
  parse: (reply) => {
    const [isClaimed, claim, time] = reply as [number, Buffer, Buffer];
    return { isClaimed: isClaimed === 1, claim: String(claim), timeMs: Number(time) };
  },
});

/**
 * Claims a request for a partition, so that it takes effect in one only. `ref` is
 * request_ref:<request>, `keptForMs` how long to keep the claim from now on, unless `endTimeMs`,
 * which may be '', says when it ends.
 *
 * A claim is `<partition> <time when it ends> <nonce>`. Answers it, or undefined where the
 * request is another partition's.
 */
export const CLAIM_REQUEST = defineScript({
  flags: "deny-oom",
  keys: ["ref"],
  args: ["partition", "keptForMs", "nonce", "endTimeMs"],
  body: `
local now = read_clock()
local claim = redis.call('GET', ref)
local ends = claim and tonumber(string.match(claim, '^%S+ (%d+)'))
if claim and string.sub(claim, 1, 2) ~= partition and now < ends then return nil end
local expire_time = end_time_ms ~= '' and end_time_ms or int(now + kept_for_ms)
claim = partition .. ' ' .. expire_time .. ' ' .. nonce
redis.call('SET', ref, claim, 'PXAT', expire_time)
return claim`,
  parse: (reply) => (reply === null ? undefined : String(reply)),
});

/** Gives back a chosen id or a request, unless the claim on it has become another than `claim`. */
export const RELEASE_CLAIM = defineScript({
  flags: "allow-oom",
  keys: ["ref"],
  args: ["claim"],
  body: `if redis.call('GET', ref) == claim then redis.call('DEL', ref) end`,
  parse: () => undefined,
});
