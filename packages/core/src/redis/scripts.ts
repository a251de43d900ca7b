import { createHash } from "node:crypto";

/**
 * A Lua script: one atomic step. All those that work on a partition share these
 * arguments:
 *
 *     KEYS[1]  sessions:{p}
 *     KEYS[2]  sessions_by_create_time:{p}
 *     KEYS[3]  session:{p}:<id>, or user_sessions:{p}:<user id> for `revokeUser`
 *     ARGV[1]  the time in ms, or '' for the time of Redis
 *     ARGV[2]  the retention of ended sessions in ms
 *     ARGV[3]  session:{p}:        what the keys of sessions start with
 *     ARGV[4]  user_sessions:{p}:  what the keys of users start with
 *
 * Keys that only the data tells (the user of a session, the sessions of a user)
 * are made from the last two; they are in the same slot as those in KEYS. Every
 * such key is read before anything is written: should it be elsewhere, in the
 * middle of a resharding, the script fails there with nothing changed.
 *
 * A session's score in `sessions` and `user_sessions` is its deadline while it
 * is not revoked, and the negative of its revocation time once it is. So the
 * active ones are those above now, and the ones to reclaim are those between
 * -(now - retention) and now - retention.
 */
export interface Script {
  readonly source: string;
  readonly sha1: string;
}

/** The fields of a session's hash, in the order in which scripts and HMGET answer them. */
export const SESSION_FIELDS = [
  "user_id",
  "record",
  "token_hash",
  "version",
  "create_time",
  "authenticate_time",
  "last_access_time",
  "idle_timeout",
  "expire_time",
  "absolute_expire_time",
  "revoke_time",
  "revoke_reason",
] as const;

/**
 * How long Redis keeps an ended session beyond its retention. The sweeper
 * removes it before that; the TTL is for when no sweeper runs.
 */
export const RECLAIM_SLACK_MS = 3_600_000;

const PRELUDE = `
local FIELDS = { ${SESSION_FIELDS.map((field) => `'${field}'`).join(", ")} }
local TOKEN_HASH, VERSION, CREATE_TIME, IDLE_TIMEOUT = 3, 4, 5, 8
local EXPIRE_TIME, ABSOLUTE_EXPIRE_TIME, REVOKE_TIME = 9, 10, 11
local USER_ID, LAST_ACCESS_TIME = 1, 7

local sessions, by_create_time = KEYS[1], KEYS[2]
local retention = tonumber(ARGV[2])
local session_prefix, user_prefix = ARGV[3], ARGV[4]

local function read_clock()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = read_clock()

-- %d, because tostring would write a large number with an exponent.
local function int(number) return string.format('%d', number) end

local function read(key) return redis.call('HMGET', key, unpack(FIELDS)) end

local function is_active(fields)
  return fields[USER_ID] and not fields[REVOKE_TIME] and now < tonumber(fields[EXPIRE_TIME])
end

-- The fields of the session at key, or nil where it is not active.
local function read_active(key)
  local fields = read(key)
  if is_active(fields) then return fields end
end

local function keep_until(key, time)
  local at = int(time + retention + ${RECLAIM_SLACK_MS})
  if redis.call('PTTL', key) < 0 then
    redis.call('PEXPIREAT', key, at)
  else
    redis.call('PEXPIREAT', key, at, 'GT')
  end
end

local function index(id, user_key, score)
  redis.call('ZADD', sessions, int(score), id)
  redis.call('ZADD', user_key, int(score), id)
end

-- Revokes an active session, given its fields.
local function revoke(id, fields, reason)
  local key, user_key = session_prefix .. id, user_prefix .. fields[USER_ID]
  redis.call('HSET', key, 'token_hash', '', 'version', int(fields[VERSION] + 1),
    'revoke_time', int(now), 'revoke_reason', reason)
  redis.call('PEXPIREAT', key, int(now + retention + ${RECLAIM_SLACK_MS}))
  index(id, user_key, -now)
end

-- Moves the idle deadline of an active session, given its key and fields, and
-- the fields themselves. A clock that was set back shortens nothing.
local function touch(key, id, fields)
  local last_access = math.max(now, tonumber(fields[LAST_ACCESS_TIME]))
  local deadline = math.min(last_access + fields[IDLE_TIMEOUT], tonumber(fields[ABSOLUTE_EXPIRE_TIME]))
  deadline = math.max(deadline, tonumber(fields[EXPIRE_TIME]))
  fields[LAST_ACCESS_TIME], fields[EXPIRE_TIME] = int(last_access), int(deadline)
  local user_key = user_prefix .. fields[USER_ID]
  redis.call('HSET', key, 'last_access_time', int(last_access), 'expire_time', int(deadline))
  keep_until(key, deadline)
  index(id, user_key, deadline)
  keep_until(user_key, deadline)
end
`;

/** A script that runs also when Redis is out of memory: it frees, or hardly grows. */
const ALLOW_OOM = "#!lua flags=allow-oom";
/** A script that Redis refuses when it is out of memory. */
const DENY_OOM = "#!lua";

function toScript(source: string): Script {
  return { source, sha1: createHash("sha1").update(source).digest("hex") };
}

/** A script that works on a partition. */
function script(shebang: string, body: string): Script {
  return toScript(`${shebang}\n${PRELUDE}\n${body}`);
}

/**
 * Adds a session.
 *
 *     KEYS[4]   user_sessions:{p}:<user id>
 *     ARGV[5]   id              ARGV[6]   user id
 *     ARGV[7]   record          ARGV[8]   token hash
 *     ARGV[9]   idle timeout    ARGV[10]  lifetime
 *     ARGV[11]  max sessions    ARGV[12]  policy
 *     ARGV[13]  reason recorded with evicted sessions
 *     ARGV[14]  when the claim on a chosen id lapses, or ''
 *
 * Answers `{ 'created', now, fields, evicted ids }`, or `{ 'exists' }`,
 * `{ 'limit' }` or `{ 'claim_lapsed' }` with nothing changed.
 */
export const CREATE = script(
  DENY_OOM,
  `
local key, user_key = KEYS[3], KEYS[4]
local id, user_id, record, token_hash = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local idle_timeout, lifetime, max_sessions = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
if ARGV[14] ~= '' and now >= tonumber(ARGV[14]) then return { 'claim_lapsed' } end
if redis.call('EXISTS', key) == 1 then return { 'exists' } end

local to_evict = {}
if redis.call('ZCOUNT', user_key, '(' .. int(now), '+inf') >= max_sessions then
  local active = {}
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', user_key, '(' .. int(now), '+inf')) do
    local fields = read_active(session_prefix .. other)
    if fields then
      active[#active + 1] = { id = other, fields = fields, created = tonumber(fields[CREATE_TIME]) }
    end
  end
  local surplus = #active - max_sessions + 1
  if surplus > 0 and ARGV[12] == 'reject' then return { 'limit' } end
  table.sort(active, function(a, b)
    if a.created ~= b.created then return a.created < b.created end
    return a.id < b.id
  end)
  for i = 1, surplus do to_evict[i] = active[i] end
end

local evicted = {}
for i, session in ipairs(to_evict) do
  revoke(session.id, session.fields, ARGV[13])
  evicted[i] = session.id
end

local absolute_expire_time = now + lifetime
local deadline = math.min(now + idle_timeout, absolute_expire_time)
redis.call('HSET', key, 'user_id', user_id, 'record', record, 'token_hash', token_hash,
  'version', 1, 'create_time', int(now), 'authenticate_time', int(now),
  'last_access_time', int(now), 'idle_timeout', int(idle_timeout),
  'expire_time', int(deadline), 'absolute_expire_time', int(absolute_expire_time))
keep_until(key, deadline)
index(id, user_key, deadline)
keep_until(user_key, deadline)
redis.call('ZADD', by_create_time, int(now), id)

-- What this user's earlier sessions left behind, so that the index of a user
-- who never stops logging in stays small also where no sweeper runs.
local ended = int(now - retention)
redis.call('ZREMRANGEBYSCORE', user_key, '-' .. ended, ended)
return { 'created', int(now), read(key), evicted }
`,
);

/**
 * Records activity. ARGV[5] is the id, ARGV[6], if there, the token hash that the
 * session must have. Answers `{ now, fields }`, or nil where there is none such.
 */
export const TOUCH = script(
  ALLOW_OOM,
  `
local key, id, token_hash = KEYS[3], ARGV[5], ARGV[6]
local fields = read_active(key)
if not fields then return nil end
if token_hash and token_hash ~= fields[TOKEN_HASH] then return nil end
touch(key, id, fields)
return { int(now), fields }
`,
);

/**
 * Replaces the record (ARGV[6]) of a session (id ARGV[5]) at a version
 * (ARGV[7]). Answers `{ now, fields }`, `{}` at another version, or nil where
 * the session is not active.
 */
export const REPLACE_RECORD = script(
  DENY_OOM,
  `
local key, record, version = KEYS[3], ARGV[6], ARGV[7]
local fields = read_active(key)
if not fields then return nil end
if fields[VERSION] ~= version then return {} end
redis.call('HSET', key, 'record', record, 'version', int(version + 1))
return { int(now), read(key) }
`,
);

/**
 * Replaces the token hash (ARGV[6]) of a session (id ARGV[5]) by another
 * (ARGV[7]). Answers `{ now, fields }`, or nil where there is none such.
 */
export const ROTATE_TOKEN = script(
  ALLOW_OOM,
  `
local key, id, token_hash, new_token_hash = KEYS[3], ARGV[5], ARGV[6], ARGV[7]
local fields = read_active(key)
if not fields or fields[TOKEN_HASH] ~= token_hash then return nil end
touch(key, id, fields)
redis.call('HSET', key, 'token_hash', new_token_hash, 'authenticate_time', int(now),
  'version', int(fields[VERSION] + 1))
return { int(now), read(key) }
`,
);

/**
 * Revokes a session. ARGV[5] is the id, ARGV[6] the reason, ARGV[7], if there, the
 * token hash that the session must have. Answers how many it revoked.
 */
export const REVOKE = script(
  ALLOW_OOM,
  `
local key, id, reason, token_hash = KEYS[3], ARGV[5], ARGV[6], ARGV[7]
local fields = read_active(key)
if not fields then return 0 end
if token_hash and token_hash ~= fields[TOKEN_HASH] then return 0 end
revoke(id, fields, reason)
return 1
`,
);

/**
 * Revokes the sessions of a user. ARGV[5] is the reason, ARGV[6] the id to
 * spare, or ''. Answers how many it revoked.
 */
export const REVOKE_USER = script(
  ALLOW_OOM,
  `
local user_key, reason, except = KEYS[3], ARGV[5], ARGV[6]
local active = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', user_key, '(' .. int(now), '+inf')) do
  local fields = id ~= except and read_active(session_prefix .. id)
  if fields then active[#active + 1] = { id = id, fields = fields } end
end
for _, session in ipairs(active) do revoke(session.id, session.fields, reason) end
return #active
`,
);

/**
 * Removes at most ARGV[5] sessions whose retention is over. Answers
 * `{ now, number of index entries it looked at, ids it removed }`.
 *
 * What the index takes for ended while the session says otherwise gets its
 * right place in the index back.
 */
export const SWEEP = script(
  ALLOW_OOM,
  `
local cutoff = now - retention
local ids = redis.call('ZRANGEBYSCORE', sessions, '-' .. int(cutoff), int(cutoff), 'LIMIT', 0, ARGV[5])
local found = {}
for i, id in ipairs(ids) do found[i] = read(session_prefix .. id) end

local removed = {}
for i, id in ipairs(ids) do
  local fields = found[i]
  local user_key = fields[USER_ID] and user_prefix .. fields[USER_ID]
  local ended = tonumber(fields[REVOKE_TIME] or fields[EXPIRE_TIME] or 0)
  if ended > cutoff then
    index(id, user_key, fields[REVOKE_TIME] and -ended or ended)
  else
    redis.call('DEL', session_prefix .. id)
    redis.call('ZREM', sessions, id)
    redis.call('ZREM', by_create_time, id)
    if user_key then redis.call('ZREM', user_key, id) end
    removed[#removed + 1] = id
  end
end
return { int(now), #ids, removed }
`,
);

/**
 * Claims an id that a caller chose for a partition, so that no two users get it.
 *
 *     KEYS[1]  session_ref:<id>
 *     ARGV[1]  the time in ms, or '' for the time of Redis
 *     ARGV[2]  the partition
 *     ARGV[3]  how long to keep the claim, in ms
 *     ARGV[4]  a random nonce, so that no two claims are alike
 *     ARGV[5]  the abandoned claim to take over from, or ''
 *
 * A claim is `<partition> <time> <nonce>`. Answers `{ 1, claim }` where the id
 * was free, was this partition's already or was taken over, and
 * `{ 0, claim, now }` where it is another's.
 */
export const CLAIM_ID = toScript(`${DENY_OOM}
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local claim = redis.call('GET', KEYS[1])
local is_own = claim and string.sub(claim, 1, 2) == ARGV[2]
if claim and not is_own and claim ~= ARGV[5] then
  return { 0, claim, string.format('%d', now) }
end
local ttl = math.max(tonumber(ARGV[3]), redis.call('PTTL', KEYS[1]))
claim = ARGV[2] .. ' ' .. string.format('%d', now) .. ' ' .. ARGV[4]
redis.call('SET', KEYS[1], claim, 'PX', string.format('%d', ttl))
return { 1, claim }
`);

/** Gives a chosen id back (KEYS[1]), unless the claim on it has become another than ARGV[1]. */
export const RELEASE_ID = toScript(`${ALLOW_OOM}
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
`);
