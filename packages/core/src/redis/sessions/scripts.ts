import { createHash } from "node:crypto";
import { MAX_FENCES_PER_SESSION } from "../../sessions/session-store.js";

/**
 * A Lua script: one atomic step. All those that work on a partition share these
 * arguments:
 *
 *     KEYS[1]  sessions:{p}
 *     KEYS[2]  sessions_by_create_time:{p}
 *     KEYS[3]  session_events:{p}
 *     KEYS[4]  session:{p}:<id>, or user_sessions:{p}:<user id> for `revokeUser`
 *     ARGV[1]  the time in ms, or '' for the time of Redis
 *     ARGV[2]  the retention of ended sessions and of events in ms
 *     ARGV[3]  session:{p}:        what the keys of sessions start with
 *     ARGV[4]  user_sessions:{p}:  what the keys of users start with
 *     ARGV[5]  the channel that is told which partitions have new events
 *     ARGV[6]  the partition
 *
 * Keys that only the data tells (the user of a session, the sessions of a user)
 * are made from the two prefixes; they are in the same slot as those in KEYS.
 * Every such key is read before anything is written: should it be elsewhere, in
 * the middle of a resharding, the script fails there with nothing changed.
 *
 * A session's score in `sessions` and `user_sessions` is its deadline while it
 * is not revoked, and the negative of its revocation time once it is. So the
 * active ones are those above now, and the ones to reclaim are those between
 * -(now - retention) and now - retention.
 *
 * An event's id in `session_events` is `<epoch>-<number>`: the time when the
 * stream began, and consecutive numbers from 1 on, so that a reader sees a gap.
 */
export interface Script {
  readonly source: string;
  readonly sha1: string;
}

/**
 * The fields of a session's hash, in the order in which scripts and HMGET answer them. The
 * numbers and what is told of a revocation are one field, `facts`: Redis keeps every field of
 * such a hash in allocations of its own, and every field of an answer takes time to read.
 *
 *     <version> <create time> <authenticate time> <last access time> <idle timeout>
 *     <expire time> <absolute expire time>[ <revoke time> <revoke reason>]
 */
export const SESSION_FIELDS = ["user_id", "record", "token_hash", "facts"] as const;

/**
 * How long Redis keeps an ended session beyond its retention. The sweeper
 * removes it before that; the TTL is for when no sweeper runs.
 */
export const RECLAIM_SLACK_MS = 3_600_000;

/** At least this many of a partition's newest events are kept, for as long as the retention. */
const MAX_EVENTS_PER_PARTITION = 1_000;
/** The fields of an event; always all of them, which Redis then stores without their names. */
export const EVENT_FIELDS = ["type", "session_id", "user_id", "version", "time", "reason"] as const;

const PRELUDE = `
local sessions, by_create_time, events = KEYS[1], KEYS[2], KEYS[3]
local retention = tonumber(ARGV[2])
local session_prefix, user_prefix = ARGV[3], ARGV[4]
local channel, partition = ARGV[5], ARGV[6]

local function read_clock()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = read_clock()
-- What ended by then is no longer kept. A retention may be longer than there has been time.
local cutoff = math.max(0, now - retention)

-- %d, because tostring would write a large number with an exponent.
local function int(number) return string.format('%d', number) end

-- Fails where a key is on another node, or not here yet. With a key that is known to be
-- here, because a node that a slot is moving to takes a single missing key for none.
local function probe(key) redis.call('EXISTS', KEYS[1], key) end

local function facts_of(session)
  local facts = string.format('%d %d %d %d %d %d %d', session.version, session.create_time,
    session.authenticate_time, session.last_access_time, session.idle_timeout,
    session.expire_time, session.absolute_expire_time)
  if not session.revoke_time then return facts end
  return facts .. ' ' .. int(session.revoke_time) .. ' ' .. session.revoke_reason
end

local function parse_facts(session, facts)
  local version, create_time, authenticate_time, last_access_time, idle_timeout, expire_time,
    absolute_expire_time, revocation = string.match(facts,
    '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)(.*)$')
  session.version, session.create_time = tonumber(version), tonumber(create_time)
  session.authenticate_time, session.last_access_time =
    tonumber(authenticate_time), tonumber(last_access_time)
  session.idle_timeout, session.expire_time = tonumber(idle_timeout), tonumber(expire_time)
  session.absolute_expire_time = tonumber(absolute_expire_time)
  local revoke_time, revoke_reason = string.match(revocation, '^ (%d+) (.*)$')
  session.revoke_time, session.revoke_reason = tonumber(revoke_time), revoke_reason
  return session
end

-- The session at key, whatever its state, or nil.
local function read(key)
  if key ~= KEYS[4] then probe(key) end
  local user_id, record, token_hash, facts =
    unpack(redis.call('HMGET', key, ${SESSION_FIELDS.map((field) => `'${field}'`).join(", ")}))
  if not facts then return nil end
  local session = { user_id = user_id, record = record, token_hash = token_hash }
  return parse_facts(session, facts)
end

-- A session as HMGET answers it; nothing where there is none.
local function fields_of(session)
  if not session then return {} end
  return { session.user_id, session.record, session.token_hash, facts_of(session) }
end

-- The session at key, or nil where it is not active.
local function read_active(key)
  local session = read(key)
  if session and not session.revoke_time and now < session.expire_time then return session end
end

local function keep_until(key, time)
  local at = int(time + retention + ${RECLAIM_SLACK_MS})
  if redis.call('PTTL', key) < 0 then
    redis.call('PEXPIREAT', key, at)
  else
    redis.call('PEXPIREAT', key, at, 'GT')
  end
end

-- Appends an event; the first one in a script also tells those who listen.
local epoch
local function append(type, id, user_id, version, reason)
  local event_id = epoch and epoch .. '-*'
  if not epoch then
    local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
    epoch = last and string.match(last[1], '^%d+') or int(now)
    -- By itself, Redis would begin with 0.
    event_id = epoch .. (last and '-*' or '-1')
    -- Only a hint, and users of Redis may lack the permission: that must not undo the rest.
    redis.pcall('PUBLISH', channel, partition)
  end
  redis.call('XADD', events, 'MAXLEN', '~', ${MAX_EVENTS_PER_PARTITION}, event_id, 'type', type,
    'session_id', id, 'user_id', user_id, 'version', int(version), 'time', int(now), 'reason', reason)
  redis.call('PEXPIREAT', events, int(now + retention + ${RECLAIM_SLACK_MS}))
end

local function index(id, user_key, score)
  redis.call('ZADD', sessions, int(score), id)
  redis.call('ZADD', user_key, int(score), id)
end

-- Revokes an active session. Its user's key must have been probed.
local function revoke(type, id, session, reason)
  local key = session_prefix .. id
  session.token_hash, session.version = '', session.version + 1
  session.revoke_time, session.revoke_reason = now, reason
  redis.call('HSET', key, 'token_hash', '', 'facts', facts_of(session))
  redis.call('PEXPIREAT', key, int(now + retention + ${RECLAIM_SLACK_MS}))
  index(id, user_prefix .. session.user_id, -now)
  append(type, id, session.user_id, session.version, reason)
end

-- Moves the idle deadline of an active session, and writes its facts. A clock that was
-- set back shortens nothing.
local function touch(key, id, session)
  local last_access = math.max(now, session.last_access_time)
  local deadline = math.min(last_access + session.idle_timeout, session.absolute_expire_time)
  session.last_access_time = last_access
  session.expire_time = math.max(deadline, session.expire_time)
  local user_key = user_prefix .. session.user_id
  probe(user_key)
  redis.call('HSET', key, 'facts', facts_of(session))
  keep_until(key, session.expire_time)
  index(id, user_key, session.expire_time)
  keep_until(user_key, session.expire_time)
end
`;

/** A script that runs also when Redis is out of memory: it frees, or hardly grows. */
const ALLOW_OOM = "#!lua flags=allow-oom";
/** A script that Redis refuses when it is out of memory. */
const DENY_OOM = "#!lua";

export function toScript(source: string): Script {
  return { source, sha1: createHash("sha1").update(source).digest("hex") };
}

/** A script that works on a partition. */
function script(shebang: string, body: string): Script {
  return toScript(`${shebang}\n${PRELUDE}\n${body}`);
}

/**
 * Adds a session.
 *
 *     KEYS[5]   user_sessions:{p}:<user id>
 *     KEYS[6]   request:{p}:<request>, if the request must take effect only once
 *     ARGV[7]   id              ARGV[8]   user id
 *     ARGV[9]   record          ARGV[10]  token hash
 *     ARGV[11]  idle timeout    ARGV[12]  lifetime
 *     ARGV[13]  max sessions    ARGV[14]  policy
 *     ARGV[15]  reason recorded with evicted sessions
 *     ARGV[16]  when the claim on a chosen id lapses, or ''
 *     ARGV[17]  the request's record
 *     ARGV[18]  how long repetitions of the request are recognised
 *
 * Answers `{ 'created', now, fields, evicted ids, when those were created }`; for a repetition
 * `{ 'repeated', now, fields, evicted ids, request's record, id, until when it is
 * recognised, whether there is a session with the id that was asked for }`; or
 * `{ 'exists' }`, `{ 'limit' }` or `{ 'claim_lapsed' }`. Only the first changes
 * anything.
 */
export const CREATE = script(
  DENY_OOM,
  `
local key, user_key, request = KEYS[4], KEYS[5], KEYS[6]
local id, user_id, record, token_hash = ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local idle_timeout, lifetime, max_sessions = tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
if request then
  local known = redis.call('HMGET', request, 'session_id', 'record', 'evicted', 'expire_time', 'create_time')
  if known[1] and now < tonumber(known[4]) then
    local evicted = {}
    for other in string.gmatch(known[3], '%S+') do evicted[#evicted + 1] = other end
    local session = read(session_prefix .. known[1])
    -- A chosen id may have been given to a later session since.
    if session and int(session.create_time) ~= known[5] then session = nil end
    return { 'repeated', int(now), fields_of(session), evicted, known[2], known[1], known[4], redis.call('EXISTS', key) }
  end
end
if ARGV[16] ~= '' and now >= tonumber(ARGV[16]) then return { 'claim_lapsed' } end
if redis.call('EXISTS', key) == 1 then return { 'exists' } end

local to_evict = {}
if redis.call('ZCOUNT', user_key, '(' .. int(now), '+inf') >= max_sessions then
  local active = {}
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', user_key, '(' .. int(now), '+inf')) do
    local session = read_active(session_prefix .. other)
    if session then active[#active + 1] = { id = other, session = session } end
  end
  local surplus = #active - max_sessions + 1
  if surplus > 0 and ARGV[14] == 'reject' then return { 'limit' } end
  table.sort(active, function(a, b)
    local created, other_created = a.session.create_time, b.session.create_time
    if created ~= other_created then return created < other_created end
    return a.id < b.id
  end)
  for i = 1, surplus do to_evict[i] = active[i] end
end

local evicted, evicted_times = {}, {}
for i, one in ipairs(to_evict) do
  revoke('evicted', one.id, one.session, ARGV[15])
  evicted[i] = one.id
  evicted_times[i] = int(one.session.create_time)
end

local deadline = now + math.min(idle_timeout, lifetime)
local session = {
  user_id = user_id, record = record, token_hash = token_hash, version = 1, create_time = now,
  authenticate_time = now, last_access_time = now, idle_timeout = idle_timeout,
  expire_time = deadline, absolute_expire_time = now + lifetime,
}
redis.call('HSET', key, 'user_id', user_id, 'record', record, 'token_hash', token_hash,
  'facts', facts_of(session))
keep_until(key, deadline)
index(id, user_key, deadline)
keep_until(user_key, deadline)
redis.call('ZADD', by_create_time, int(now), id)
append('created', id, user_id, 1, '')
if request then
  local expire_time = now + tonumber(ARGV[18])
  redis.call('HSET', request, 'session_id', id, 'record', ARGV[17],
    'evicted', table.concat(evicted, ' '), 'expire_time', int(expire_time), 'create_time', int(now))
  redis.call('PEXPIREAT', request, int(expire_time))
end

-- What this user's earlier sessions left behind, so that the index of a user
-- who never stops logging in stays small also where no sweeper runs.
redis.call('ZREMRANGEBYSCORE', user_key, '-' .. int(cutoff), int(cutoff))
return { 'created', int(now), fields_of(session), evicted, evicted_times }
`,
);

/**
 * Records activity. ARGV[7] is the id, ARGV[8], if there, the token hash that the
 * session must have. Answers `{ now, fields }`, or nil where there is none such.
 */
export const TOUCH = script(
  ALLOW_OOM,
  `
local key, id, token_hash = KEYS[4], ARGV[7], ARGV[8]
local session = read_active(key)
if not session then return nil end
if token_hash and token_hash ~= session.token_hash then return nil end
touch(key, id, session)
return { int(now), fields_of(session) }
`,
);

/**
 * Replaces the record (ARGV[8]) of a session (id ARGV[7]) at a version
 * (ARGV[9]). Answers `{ now, fields }`, `{}` at another version, or nil where
 * the session is not active.
 *
 * With a fence, ARGV[10] is the name of the lock and ARGV[11] the token, which the hash keeps
 * as `fence:<lock>`. Answers 'fenced' where it has a higher one, and
 * 'too_many_fences' where it has those of too many other locks.
 */
export const REPLACE_RECORD = script(
  DENY_OOM,
  `
local key, id, record, version = KEYS[4], ARGV[7], ARGV[8], tonumber(ARGV[9])
local session = read_active(key)
if not session then return nil end
local fence, token = ARGV[10] and 'fence:' .. ARGV[10], ARGV[11]
local seen = fence and redis.call('HGET', key, fence)
if seen and tonumber(seen) > tonumber(token) then return 'fenced' end
if session.version ~= version then return {} end
if fence and not seen then
  local count = 0
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.sub(field, 1, 6) == 'fence:' then count = count + 1 end
  end
  if count >= ${MAX_FENCES_PER_SESSION} then return 'too_many_fences' end
end
if fence then redis.call('HSET', key, fence, token) end
session.record, session.version = record, version + 1
redis.call('HSET', key, 'record', record, 'facts', facts_of(session))
append('updated', id, session.user_id, session.version, '')
return { int(now), fields_of(session) }
`,
);

/**
 * Replaces the sealed record of a session (id ARGV[7]), whatever its state, if it is
 * ARGV[8], by ARGV[9]. Answers 1 if it did, 0 otherwise.
 */
export const RESEAL = script(
  DENY_OOM,
  `
local key, record, resealed = KEYS[4], ARGV[8], ARGV[9]
if redis.call('HGET', key, 'record') ~= record then return 0 end
redis.call('HSET', key, 'record', resealed)
return 1
`,
);

/**
 * Replaces the token hash (ARGV[8]) of a session (id ARGV[7]) by another
 * (ARGV[9]). Answers `{ now, fields }`, or nil where there is none such.
 */
export const ROTATE_TOKEN = script(
  ALLOW_OOM,
  `
local key, id, token_hash, new_token_hash = KEYS[4], ARGV[7], ARGV[8], ARGV[9]
local session = read_active(key)
if not session or session.token_hash ~= token_hash then return nil end
session.token_hash, session.authenticate_time = new_token_hash, now
session.version = session.version + 1
touch(key, id, session)
redis.call('HSET', key, 'token_hash', new_token_hash)
append('token_rotated', id, session.user_id, session.version, '')
return { int(now), fields_of(session) }
`,
);

/**
 * Revokes a session. ARGV[7] is the id, ARGV[8] the reason, ARGV[9] when it must have
 * been created, or '', ARGV[10], if there, the token hash that it must have. Answers
 * when it was created, or nil where it revoked nothing.
 */
export const REVOKE = script(
  ALLOW_OOM,
  `
local key, id, reason, create_time, token_hash = KEYS[4], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local session = read_active(key)
if not session then return nil end
if token_hash and token_hash ~= session.token_hash then return nil end
if create_time ~= '' and tonumber(create_time) ~= session.create_time then return nil end
probe(user_prefix .. session.user_id)
revoke('revoked', id, session, reason)
return int(session.create_time)
`,
);

/**
 * Revokes the sessions of a user. ARGV[7] is the reason, ARGV[8] the id to
 * spare, or ''. Answers the ids of those it revoked, and when they were created.
 */
export const REVOKE_USER = script(
  ALLOW_OOM,
  `
local user_key, reason, except = KEYS[4], ARGV[7], ARGV[8]
local active, ids, times = {}, {}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', user_key, '(' .. int(now), '+inf')) do
  local session = id ~= except and read_active(session_prefix .. id)
  if session then
    active[#active + 1] = session
    ids[#ids + 1] = id
    times[#times + 1] = int(session.create_time)
  end
end
for i, session in ipairs(active) do revoke('revoked', ids[i], session, reason) end
return { ids, times }
`,
);

/**
 * Removes at most ARGV[7] sessions whose retention is over, and as many events.
 * Answers `{ now, whether there may be more, ids it removed, number of index
 * entries put right }`.
 *
 * What the index takes for ended while the session says otherwise gets its
 * right place in the index back.
 */
export const SWEEP = script(
  ALLOW_OOM,
  `
local limit = tonumber(ARGV[7])
local ids = redis.call('ZRANGEBYSCORE', sessions, '-' .. int(cutoff), int(cutoff), 'LIMIT', 0, limit)
local found = {}
for i, id in ipairs(ids) do
  found[i] = read(session_prefix .. id) or false
  if found[i] then probe(user_prefix .. found[i].user_id) end
end

local removed, healed = {}, 0
for i, id in ipairs(ids) do
  local session = found[i]
  local user_key = session and user_prefix .. session.user_id
  local ended = session and (session.revoke_time or session.expire_time) or 0
  if ended > cutoff then
    index(id, user_key, session.revoke_time and -ended or ended)
    healed = healed + 1
  else
    redis.call('DEL', session_prefix .. id)
    redis.call('ZREM', sessions, id)
    redis.call('ZREM', by_create_time, id)
    if user_key then redis.call('ZREM', user_key, id) end
    removed[#removed + 1] = id
  end
end

-- The stream goes with its last event: what is left is then nothing at all.
local oldest, first_kept = redis.call('XRANGE', events, '-', '+', 'COUNT', limit + 1), nil
for i = 1, math.min(limit, #oldest) do
  if tonumber(oldest[i][2][10]) >= cutoff then
    first_kept = oldest[i][1]
    break
  end
end
if not first_kept and #oldest > limit then first_kept = oldest[limit + 1][1] end
if first_kept then
  redis.call('XTRIM', events, 'MINID', first_kept)
elseif #oldest > 0 then
  redis.call('DEL', events)
end
local more = #ids == limit or (first_kept ~= nil and #oldest > limit and first_kept == oldest[limit + 1][1])
return { int(now), more and 1 or 0, removed, healed }
`,
);

/**
 * Compares sessions with the indexes and puts these right.
 *
 *     ARGV[7], ARGV[9], …   ids
 *     ARGV[8], ARGV[10], …  the users whose index names them, or ''
 *
 * Answers how many index entries it changed.
 */
export const HEAL = script(
  ALLOW_OOM,
  `
local found = {}
for i = 7, #ARGV, 2 do
  local id, user_id = ARGV[i], ARGV[i + 1]
  local session = read(session_prefix .. id)
  if session then probe(user_prefix .. session.user_id) end
  if user_id ~= '' then probe(user_prefix .. user_id) end
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
    local score = session.revoke_time and -deadline or deadline
    put(sessions, id, score)
    -- A user's own index is cleared of what is over by logging in, too.
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
return healed
`,
);

/**
 * Reads a partition's events.
 *
 *     KEYS[1]  session_events:{p}
 *     ARGV[1]  the time in ms, or '' for the time of Redis
 *     ARGV[2]  the epoch of the reader's place   ARGV[3]  its number
 *     ARGV[4]  how many events at most
 *     ARGV[5]  '1' to tell which process this is, else ''
 *
 * Answers `{ now, process or '', id of the last event or '', events }`: those after
 * the place or, where the stream is of another epoch, all.
 */
export const READ_EVENTS = toScript(`#!lua flags=no-writes
local now = ARGV[1]
if now == '' then
  local time = redis.call('TIME')
  now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
end
local process = ''
if ARGV[5] == '1' then
  -- The replication id is new with every promotion, also of a process that was primary before.
  local info = redis.call('INFO', 'server', 'replication')
  process = string.match(info, 'run_id:(%x+)') .. string.match(info, 'master_replid:(%x+)')
end
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if not last then return { now, process, '', {} } end
local start = '-'
if string.match(last[1], '^%d+') == ARGV[2] then start = '(' .. ARGV[2] .. '-' .. ARGV[3] end
local events = tonumber(ARGV[4]) > 0 and redis.call('XRANGE', KEYS[1], start, '+', 'COUNT', ARGV[4]) or {}
return { now, process, last[1], events }
`);

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

/**
 * Claims a request for a partition, so that it takes effect in one only.
 *
 *     KEYS[1]  request_ref:<request>
 *     ARGV[1]  the time in ms, or '' for the time of Redis
 *     ARGV[2]  the partition
 *     ARGV[3]  how long to keep the claim, in ms
 *     ARGV[4]  a random nonce, so that no two claims are alike
 *     ARGV[5]  when the claim ends, or '' for the time that ARGV[3] is from now
 *
 * A claim is `<partition> <time when it ends> <nonce>`. Answers it, or nil where
 * the request is another partition's.
 */
export const CLAIM_REQUEST = toScript(`${DENY_OOM}
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local claim = redis.call('GET', KEYS[1])
local ends = claim and tonumber(string.match(claim, '^%S+ (%d+)'))
if claim and string.sub(claim, 1, 2) ~= ARGV[2] and now < ends then return nil end
local expire_time = ARGV[5] ~= '' and ARGV[5] or string.format('%d', now + ARGV[3])
claim = ARGV[2] .. ' ' .. expire_time .. ' ' .. ARGV[4]
redis.call('SET', KEYS[1], claim, 'PXAT', expire_time)
return claim
`);

/** Gives back a chosen id or a request (KEYS[1]), unless the claim on it has become another than ARGV[1]. */
export const RELEASE_CLAIM = toScript(`${ALLOW_OOM}
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
`);
