import { MAX_FENCES_PER_SESSION, type TouchedSession } from "../../sessions/session-store.js";
import { parseRevoked } from "./create-scripts.js";
import { definePartitionScript } from "./partition-scripts.js";
import { type Fields, toStoredFacts, toStoredSession } from "./stored-session.js";

/**
 * Records activity. A further argument is the token hash that the session must have. Answers
 * undefined if the session is not active, and no record at version `knownVersion`.
 */
export const TOUCH = definePartitionScript({
  flags: "allow-oom",
  keys: ["key"],
  args: ["id", "knownVersion"],
  body: `
local session, token_hash = read_active(key), ARGV[first_more]
if not session then return nil end
if token_hash and token_hash ~= session.token_hash then return nil end
touch(key, id, session)
local record = int(session.version) ~= known_version and redis.call('HGET', key, 'record')
return { int(now), session.user_id, record, facts_of(session) }`,
  parse: (reply, { id }): TouchedSession | undefined => {
    if (reply === null) return undefined;
    const [time, userId, record, facts] = reply as [Buffer, Buffer, Buffer | null, Buffer];
    return { ...toStoredFacts(id, userId, facts, time), ...(record && { record }) };
  },
});

/**
 * Replaces the record of a session at `version`.
 *
 * With a fence, `lock` is the lock's name, and the hash stores `fencingToken` as `fence:<lock>`.
 * Otherwise both are ''. Answers 'fenced' if the session has a higher token of the lock, and
 * 'too_many_fences' if it has tokens of too many other locks.
 */
export const REPLACE_RECORD = definePartitionScript({
  flags: "deny-oom",
  keys: ["key"],
  args: ["id", "record", "version", "lock", "fencingToken"],
  body: `
local session = read_active(key)
if not session then return { 'not_active' } end
local fence = lock ~= '' and 'fence:' .. lock
local seen = fence and redis.call('HGET', key, fence)
if seen and tonumber(seen) > tonumber(fencing_token) then return { 'fenced' } end
if session.version ~= tonumber(version) then return { 'version_mismatch' } end
if fence and not seen then
  local count = 0
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.sub(field, 1, 6) == 'fence:' then count = count + 1 end
  end
  if count >= ${MAX_FENCES_PER_SESSION} then return { 'too_many_fences' } end
end
if fence then redis.call('HSET', key, fence, fencing_token) end
session.version = session.version + 1
redis.call('HSET', key, 'record', record, 'facts', facts_of(session))
append('updated', id, session.user_id, session.version, '')
return { 'changed', int(now), session.user_id, facts_of(session) }`,
  parse: (reply, { id }) => {
    const [outcome, ...changed] = reply as [Buffer, ...Buffer[]];
    const [time, userId, facts] = changed as [Buffer, Buffer, Buffer];
    return String(outcome) === "changed"
      ? toStoredFacts(id, userId, facts, time)
      : (String(outcome) as "not_active" | "version_mismatch" | "fenced" | "too_many_fences");
  },
});

/** Replaces the sealed record of a session in any state, if it is `record`. */
export const RESEAL = definePartitionScript({
  flags: "deny-oom",
  keys: ["key"],
  args: ["record", "resealed"],
  body: `
if redis.call('HGET', key, 'record') ~= record then return 0 end
redis.call('HSET', key, 'record', resealed)
return 1`,
  parse: (reply) => reply === 1,
});

/** Replaces the token hash of an active session. Answers the session, or undefined. */
export const ROTATE_TOKEN = definePartitionScript({
  flags: "allow-oom",
  keys: ["key"],
  args: ["id", "tokenHash", "newTokenHash"],
  body: `
local session = read_active(key)
if not session or session.token_hash ~= token_hash then return nil end
session.authenticate_time, session.version = now, session.version + 1
touch(key, id, session)
redis.call('HSET', key, 'token_hash', new_token_hash)
append('token_rotated', id, session.user_id, session.version, '')
return { int(now), session.user_id, redis.call('HGET', key, 'record'), new_token_hash, facts_of(session) }`,
  parse: (reply, { id }) => {
    if (reply === null) return undefined;
    const [time, ...fields] = reply as [Buffer, ...Fields];
    return toStoredSession(id, fields, time);
  },
});

/**
 * Revokes a session that was created at `createTimeMs`, or at any time if that is ''. A further
 * argument is the token hash that the session must have. Answers the creation time, or undefined if
 * it revoked nothing.
 */
export const REVOKE = definePartitionScript({
  flags: "allow-oom",
  keys: ["key"],
  args: ["id", "reason", "createTimeMs"],
  body: `
local session, token_hash = read_active(key), ARGV[first_more]
if not session then return nil end
if token_hash and token_hash ~= session.token_hash then return nil end
if create_time_ms ~= '' and tonumber(create_time_ms) ~= session.create_time then return nil end
probed(user_prefix .. session.user_id)
revoke('revoked', id, session, reason)
return int(session.create_time)`,
  parse: (reply) => (reply === null ? undefined : Number(reply)),
});

/** Revokes a user's sessions except `exceptId`, which may be ''. Answers the revoked sessions. */
export const REVOKE_USER = definePartitionScript({
  flags: "allow-oom",
  keys: ["userKey"],
  args: ["reason", "exceptId"],
  body: `
local active, ids, times = {}, {}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', user_key, '(' .. int(now), '+inf')) do
  local session = id ~= except_id and read_active(probed(session_prefix .. id))
  if session then
    active[#active + 1] = session
    ids[#ids + 1] = id
    times[#times + 1] = int(session.create_time)
  end
end
for i, session in ipairs(active) do revoke('revoked', ids[i], session, reason) end
return { ids, times }`,
  parse: (reply) => parseRevoked(...(reply as [Buffer[], Buffer[]])),
});
