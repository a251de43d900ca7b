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
import { factsIn, sessionIn } from "./stored-session.js";

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
if token_hash and not is_proof(session, token_hash) then return nil end
move_deadline(key, id, session)
-- Replicas get these few bytes, and not the record.
redis.call('SETRANGE', key, 0, pack_head(session))
local is_known = int(session.version) == known_version
return { int(now), pack(session, not is_known and session.record), is_known and 1 or 0 }`,
  parse: (reply, { id }): TouchedSession | undefined => {
    if (reply === null) return undefined;
    const [time, bytes, isKnown] = reply as [Buffer, Buffer, number];
    const now = Number(time);
    return isKnown === 1 ? factsIn(id, bytes, now) : sessionIn(id, bytes, now);
  },
});

/**
 * Replaces the record of a session at `version`.
 *
 * With a fence, `lock` is the lock's name, and the session keeps `fencingToken` with it. Otherwise
 * both are ''. Answers 'fenced' if the session has a higher token of the lock, and 'too_many_fences'
 * if it has tokens of too many other locks.
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

local kept, count, at = '', 0, 1
local fences = session.fences or ''
while lock ~= '' and at <= #fences do
  local name, token, next_at = struct.unpack('>I2c0d', fences, at)
  if name ~= lock then
    kept, count = kept .. string.sub(fences, at, next_at - 1), count + 1
  elseif token > tonumber(fencing_token) then
    return { 'fenced' }
  end
  at = next_at
end
if session.version ~= tonumber(version) then return { 'version_mismatch' } end
if lock ~= '' then
  if count >= ${MAX_FENCES_PER_SESSION} then return { 'too_many_fences' } end
  session.fences = kept .. struct.pack('>I2c0d', #lock, lock, tonumber(fencing_token))
end
local replaced = ends_grace == '1' and replaced_of(session)
if replaced and #replaced > 0 then
  end_graces(replaced)
  set_replaced(session, replaced)
end
session.version, session.record = session.version + 1, record
write(key, session)
append('updated', id, session.user_id, session.version, '')
return { 'changed', int(now), pack(session) }`,
  parse: (reply, { id }) => {
    const [outcome, ...changed] = reply as [Buffer, ...Buffer[]];
    const [time, bytes] = changed as [Buffer, Buffer];
    return String(outcome) === "changed"
      ? factsIn(id, bytes, Number(time))
      : (String(outcome) as "not_active" | "version_mismatch" | "fenced" | "too_many_fences");
  },
});

/** Replaces the sealed record of a session in any state, if it is `record`. */
export const RESEAL = definePartitionScript({
  flags: "deny-oom",
  keys: ["key"],
  args: ["record", "resealed"],
  body: `
local session = read(key)
if not session or session.record ~= record then return 0 end
session.record = resealed
write(key, session)
return 1`,
  parse: (reply) => reply === 1,
});

const ROTATE_ARGS = ["id", "tokenHash", "newTokenHash", "graceMs"] as const;

/** Replaces the token hash of an active session. Answers the time and the session, or nil. */
const ROTATE_FUNCTION = `
local function answer_of(session) return { int(now), pack(session, session.record) } end

-- request is what the session keeps of the rotation's request, if there is one.
local function rotate(request)
  local session = read_active(key)
  if not session or session.token_hash ~= token_hash then return nil end
  local replaced, grace = replaced_of(session), tonumber(grace_ms)
  if grace == 0 then
    session.authenticate_time = now
    end_graces(replaced)
  end
  replaced[#replaced + 1] = { hash = token_hash, time = now, grace_end = grace > 0 and now + grace or 0 }
  if #replaced > ${MAX_REPLACED_TOKENS} then table.remove(replaced, 1) end
  session.token_hash, session.token_create_time = new_token_hash, now
  session.version = session.version + 1
  session.rotation_request = request
  set_replaced(session, replaced)
  move_deadline(key, id, session)
  write(key, session)
  append('token_rotated', id, session.user_id, session.version, '')
  return answer_of(session)
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
local session = read_active(key)
if not session then return nil end
local known = session.rotation_request
if known then
  local expire_time, hash, replaced_hash = struct.unpack('>dc32c32', known)
  if hash == request_hash and now < expire_time then
    if token_hash ~= replaced_hash and token_hash ~= session.token_hash then return nil end
    return { string.sub(known, 73), answer_of(session) }
  end
end

local expire_time = now + tonumber(request_kept_for_ms)
local rotated = rotate(struct.pack('>d', expire_time) .. request_hash .. token_hash .. request_record)
return rotated and { false, rotated }`,
  parse: (reply, args): StoredSession | RepeatedRotation | undefined => {
    if (reply === null) return undefined;
    const [repeated, rotated] = reply as [Buffer | null, unknown];
    const session = parseSession(rotated, args);
    return session && repeated !== null ? { repeated, session } : session;
  },
});

function parseSession(
  reply: unknown,
  { id }: Readonly<Record<"id", Argument>>,
): StoredSession | undefined {
  if (reply === null) return undefined;
  const [time, bytes] = reply as [Buffer, Buffer];
  return sessionIn(id, bytes, Number(time));
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
local replaced, reused = replaced_of(session), nil
for _, token in ipairs(replaced) do
  if token.hash == token_hash and now >= token.grace_end then reused = token end
end
if not reused then return nil end

probed(user_prefix .. session.user_id)
if now - replaced.reuse_event_time >= ${REUSE_EVENT_INTERVAL_MS} then
  session.version = session.version + 1
  replaced.reuse_event_time = now
  set_replaced(session, replaced)
  write(key, session)
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
if token_hash and not is_proof(session, token_hash) then return nil end
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
