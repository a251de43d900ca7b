import {
  MAX_REPLACED_TOKENS,
  REUSE_EVENT_INTERVAL_MS,
  REUSE_REASON,
  REUSE_TOLERANCE_MS,
} from "../../sessions/replaced-tokens.js";
import {
  MAX_FENCES_PER_SESSION,
  type RepeatedRotation,
  type StoredSession,
  type TouchedSession,
} from "../../sessions/session-store.js";
import type { Argument } from "../connection/script.js";
import { parseRevoked } from "./create-scripts.js";
import { definePartitionScript } from "./partition-scripts.js";
import { type Fields, toStoredFacts, toStoredSession } from "./stored-session.js";

/**
 * Records activity. A further argument is the token hash that must prove the session. Answers
 * undefined if the session is not active, and no record at version `knownVersion`.
 */
export const TOUCH = definePartitionScript({
  flags: "allow-oom",
  keys: ["key"],
  args: ["id", "knownVersion"],
  body: `
local session, token_hash = read_active(key), ARGV[first_more]
if not session then return nil end
if token_hash and not is_proof(key, session, token_hash) then return nil end
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
 *
 * `endsGrace` is '1' to end the grace of all replaced tokens, or ''.
 */
export const REPLACE_RECORD = definePartitionScript({
  flags: "deny-oom",
  keys: ["key"],
  args: ["id", "record", "version", "lock", "fencingToken", "endsGrace"],
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
local replaced = ends_grace == '1' and read_replaced(key)
if replaced and #replaced > 0 then
  end_graces(replaced)
  write_replaced(key, replaced)
end
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

const ROTATE_ARGS = ["id", "tokenHash", "newTokenHash", "graceMs"] as const;

/** Replaces the token hash of an active session. Answers the session's fields, or nil. */
const ROTATE_FUNCTION = `
local function fields_of(session)
  local record, replaced = unpack(redis.call('HMGET', key, 'record', 'replaced_tokens'))
  return { int(now), session.user_id, record, session.token_hash, facts_of(session), replaced }
end

-- request is what the session keeps of the rotation's request, if there is one.
local function rotate(request)
  local session = read_active(key)
  if not session or session.token_hash ~= token_hash then return nil end
  local replaced, grace = read_replaced(key), tonumber(grace_ms)
  if grace == 0 then
    session.authenticate_time = now
    end_graces(replaced)
  end
  replaced[#replaced + 1] = { hash = token_hash, time = now, grace_end = grace > 0 and now + grace or 0 }
  if #replaced > ${MAX_REPLACED_TOKENS} then table.remove(replaced, 1) end
  session.token_hash, session.token_create_time = new_token_hash, now
  session.version = session.version + 1
  touch(key, id, session)
  redis.call('HSET', key, 'token_hash', new_token_hash)
  if request then
    redis.call('HSET', key, 'rotation_request', request)
  else
    redis.call('HDEL', key, 'rotation_request')
  end
  write_replaced(key, replaced)
  append('token_rotated', id, session.user_id, session.version, '')
  return fields_of(session)
end
`;

/** Replaces the token hash of an active session. Answers the session, or undefined. */
export const ROTATE_TOKEN = definePartitionScript({
  flags: "allow-oom",
  keys: ["key"],
  args: ROTATE_ARGS,
  body: `${ROTATE_FUNCTION}
return rotate()`,
  parse: parseSession,
});

/**
 * As `ROTATE_TOKEN`, and the session keeps the request as `encodeRotationRequest` writes it.
 * `requestHash` is the hash of its key.
 */
export const ROTATE_TOKEN_ONCE = definePartitionScript({
  flags: "allow-oom",
  keys: ["key"],
  args: [...ROTATE_ARGS, "requestHash", "requestRecord", "requestKeptForMs"],
  body: `${ROTATE_FUNCTION}
local known = redis.call('HGET', key, 'rotation_request')
if known then
  local expire_time, hash, replaced_hash = struct.unpack('>dc32c32', known)
  if hash == request_hash and now < expire_time then
    local session = read_active(key)
    if not session then return nil end
    if token_hash ~= replaced_hash and token_hash ~= session.token_hash then return nil end
    return { string.sub(known, 73), fields_of(session) }
  end
end

local expire_time = now + tonumber(request_kept_for_ms)
local fields = rotate(struct.pack('>d', expire_time) .. request_hash .. token_hash .. request_record)
return fields and { false, fields }`,
  parse: (reply, args): StoredSession | RepeatedRotation | undefined => {
    if (reply === null) return undefined;
    const [repeated, fields] = reply as [Buffer | null, unknown];
    const session = parseSession(fields, args);
    return session && repeated !== null ? { repeated, session } : session;
  },
});

function parseSession(
  reply: unknown,
  { id }: Readonly<Record<"id", Argument>>,
): StoredSession | undefined {
  if (reply === null) return undefined;
  const [time, ...fields] = reply as [Buffer, ...Fields];
  return toStoredSession(id, fields, time);
}

/**
 * Reports that a refused token was presented, as `SessionStore.reportReuse` does. `revokes` is '1'
 * or ''. Answers the store time of a session that it revoked, or undefined.
 */
export const REPORT_REUSE = definePartitionScript({
  flags: "allow-oom",
  keys: ["key"],
  args: ["id", "tokenHash", "revokes"],
  body: `
local session = read_active(key)
if not session then return nil end
local replaced, reused = read_replaced(key), nil
for _, token in ipairs(replaced) do
  if token.hash == token_hash and now >= token.grace_end then reused = token end
end
if not reused then return nil end

probed(user_prefix .. session.user_id)
if now - replaced.reuse_event_time >= ${REUSE_EVENT_INTERVAL_MS} then
  session.version = session.version + 1
  replaced.reuse_event_time = now
  redis.call('HSET', key, 'facts', facts_of(session))
  write_replaced(key, replaced)
  append('token_reused', id, session.user_id, session.version, '')
end
if revokes ~= '1' or now - end_of(reused) <= ${REUSE_TOLERANCE_MS} then return nil end
revoke('revoked', id, session, '${REUSE_REASON}')
return int(session.store_time)`,
  parse: (reply) => (reply === null ? undefined : Number(reply)),
});

/**
 * Revokes a session of `userId` that was stored at `storeTimeMs`. Either may be '' for any. A
 * further argument is the token hash that must prove the session. Answers the store time, or
 * undefined if it revoked nothing.
 */
export const REVOKE = definePartitionScript({
  flags: "allow-oom",
  keys: ["key"],
  args: ["id", "reason", "storeTimeMs", "userId"],
  body: `
local session, token_hash = read_active(key), ARGV[first_more]
if not session then return nil end
if token_hash and not is_proof(key, session, token_hash) then return nil end
if store_time_ms ~= '' and tonumber(store_time_ms) ~= session.store_time then return nil end
if user_id ~= '' and user_id ~= session.user_id then return nil end
probed(user_prefix .. session.user_id)
revoke('revoked', id, session, reason)
return int(session.store_time)`,
  parse: (reply) => (reply === null ? undefined : Number(reply)),
});

/**
 * Revokes a user's sessions except `exceptId`, which may be ''. Answers the revoked sessions, or
 * undefined if `exceptId` is not an active session of the user.
 */
export const REVOKE_USER = definePartitionScript({
  flags: "allow-oom",
  keys: ["userKey"],
  args: ["reason", "exceptId"],
  body: `
if except_id ~= '' then
  local kept = read_active(probed(session_prefix .. except_id))
  if not kept or user_prefix .. kept.user_id ~= user_key then return nil end
end
local active, ids, times = {}, {}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', user_key, '(' .. int(now), '+inf')) do
  local session = id ~= except_id and read_active(probed(session_prefix .. id))
  if session then
    active[#active + 1] = session
    ids[#ids + 1] = id
    times[#times + 1] = int(session.store_time)
  end
end
for i, session in ipairs(active) do revoke('revoked', ids[i], session, reason) end
return { ids, times }`,
  parse: (reply) => (reply === null ? undefined : parseRevoked(...(reply as [Buffer[], Buffer[]]))),
});
