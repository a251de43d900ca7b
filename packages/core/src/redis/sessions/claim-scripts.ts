import { defineScript } from "../connection/script.js";

/**
 * Claims a chosen id for a partition, so that no two users get it. `ref` is session_ref:<id>,
 * `ttlMs` how long to keep the claim, `nonce` makes the claim unique, and `abandoned` is the claim
 * to replace, or ''.
 *
 * A claim is `<partition> <time> <nonce>`. Claims an id that is free, already this partition's, or
 * abandoned. Otherwise answers the other partition's claim. `isNew` tells that the partition had no
 * claim before.
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
return { is_own and 2 or 1, claim, now }`,
  parse: (reply) => {
    const [claimed, claim, time] = reply as [number, Buffer, Buffer];
    return {
      isClaimed: claimed > 0,
      isNew: claimed === 1,
      claim: String(claim),
      timeMs: Number(time),
    };
  },
});

/**
 * Claims a request for a partition, so that it takes effect in one partition only. `ref` is
 * request_ref:<request>. The claim ends at `endTimeMs`, or `keptForMs` from now if that is ''.
 *
 * A claim is `<partition> <end time> <nonce>`. Answers the claim, or undefined if another partition
 * has the request.
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

/** Releases a chosen id or a request, if `claim` is still its claim. */
export const RELEASE_CLAIM = defineScript({
  flags: "allow-oom",
  keys: ["ref"],
  args: ["claim"],
  body: `if redis.call('GET', ref) == claim then redis.call('DEL', ref) end`,
  parse: () => undefined,
});
