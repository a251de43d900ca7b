import type { RepeatedCreation, StoredFacts } from "../../sessions/session-store.js";
import type { Argument } from "../connection/script.js";
import { definePartitionScript } from "./partition-scripts.js";
import { fromStoredId } from "./stored-id.js";
import { factsIn, sessionIn } from "./stored-session.js";

/** Why nothing was created. */
type Refusal = "too_old" | "ended" | "exists" | "limit" | "claim_lapsed";

/** The result of a creation. Only `created` changes anything. */
export type CreateReply =
  | {
      readonly outcome: "created";
      readonly session: StoredFacts;
      /** Oldest first. */
      readonly evicted: readonly RevokedSession[];
    }
  | { readonly outcome: Refusal };

/** The result of an earlier call with the same request. */
export interface RepeatedReply {
  readonly outcome: "repeated";
  readonly creation: RepeatedCreation;
  /** Until when repetitions are recognised. */
  readonly keptUntilMs: number;
  /** Whether a session has the id of this call. */
  readonly isIdInUse: boolean;
}

/** A session that a script revoked. */
export interface RevokedSession {
  readonly id: string;
  /** Tells the session from a later one with the same id. */
  readonly storeTimeMs: number;
}

/** Parses the ids and store times of revoked sessions. */
export function parseRevoked(ids: readonly Buffer[], times: readonly Buffer[]): RevokedSession[] {
  return ids.map((id, i) => ({ id: fromStoredId(id), storeTimeMs: Number(times[i]) }));
}

/** The session, its user's index, and the namespaces of the partition. */
const KEYS = ["key", "userKey", "namespaces"] as const;
const ARGS = [
  "namespace",
  "id",
  "userId",
  "record",
  "tokenHash",
  "idleTimeoutMs",
  "lifetimeMs",
  "maxSessions",
  "limitPolicy",
  "evictionReason",
  /** When the claim on a chosen id lapses, in ms, or ''. */
  "claimLapseTimeMs",
  /** The times of a session that moves in, in ms, or ''. */
  "createTimeMs",
  "authenticateTimeMs",
  "expireTimeMs",
] as const;

/**
 * Adds a session. In the same step the namespace becomes known to the sweepers of all servers,
 * which learn of namespaces from nothing else. `parseCreateReply` parses the answer.
 */
const CREATE_FUNCTION = `
local idle_timeout, lifetime = tonumber(idle_timeout_ms), tonumber(lifetime_ms)
local create_time = math.min(tonumber(create_time_ms) or now, now)
local authenticate_time = math.max(create_time, math.min(tonumber(authenticate_time_ms) or create_time, now))
local idle_deadline = math.min(tonumber(expire_time_ms) or math.huge, now + idle_timeout)
local deadline = math.min(idle_deadline, create_time + lifetime)

local function create()
  if claim_lapse_time_ms ~= '' and now >= tonumber(claim_lapse_time_ms) then return { 'claim_lapsed' } end
  if redis.call('EXISTS', key) == 1 then return { 'exists' } end
  if create_time + lifetime <= now then return { 'too_old' } end
  if deadline <= now then return { 'ended' } end

  local to_evict, limit = {}, tonumber(max_sessions)
  if redis.call('ZCOUNT', user_key, '(' .. int(now), '+inf') >= limit then
    local active = {}
    for _, other in ipairs(redis.call('ZRANGEBYSCORE', user_key, '(' .. int(now), '+inf')) do
      local session = read_active(probed(session_prefix .. other), read_facts)
      if session then active[#active + 1] = { id = other, session = session } end
    end
    local surplus = #active - limit + 1
    if surplus > 0 and limit_policy == 'reject' then return { 'limit' } end
    table.sort(active, function(a, b)
      local created, other_created = a.session.create_time, b.session.create_time
      if created ~= other_created then return created < other_created end
      return precedes(a.id, b.id)
    end)
    for i = 1, surplus do to_evict[i] = active[i] end
  end

  local evicted, evicted_times = {}, {}
  for i, one in ipairs(to_evict) do
    revoke('evicted', one.id, read(session_prefix .. one.id), eviction_reason)
    evicted[i] = one.id
    evicted_times[i] = int(one.session.store_time)
  end

  local session = {
    version = 1, user_id = user_id, token_hash = token_hash, create_time = create_time, authenticate_time = authenticate_time,
    last_access_time = math.max(create_time, idle_deadline - idle_timeout),
    idle_timeout = idle_timeout, expire_time = deadline,
    absolute_expire_time = create_time + lifetime, token_create_time = create_time,
    store_time = now,
  }
  redis.call('SET', key, pack(session, record), 'PXAT', int(deadline + kept_for))
  index(id, user_key, deadline)
  keep_until(user_key, deadline)
  redis.call('ZADD', by_create_time, int(create_time), id)
  if namespace ~= '' then redis.call('SADD', namespaces, namespace) end
  append('created', id, user_id, 1, '')

  -- Remove this user's old entries, so that the index stays small even if no sweeper runs.
  redis.call('ZREMRANGEBYSCORE', user_key, '-' .. int(cutoff), int(cutoff))
  return { 'created', int(now), pack(session), evicted, evicted_times }
end
`;

export const CREATE = definePartitionScript({
  flags: "deny-oom",
  keys: KEYS,
  args: ARGS,
  body: `${CREATE_FUNCTION}
return create()`,
  parse: parseCreateReply,
});

/**
 * Adds a session, at most once for a request. The key `request` stores `requestRecord` for
 * `requestKeptForMs`.
 */
export const CREATE_ONCE = definePartitionScript({
  flags: "deny-oom",
  keys: [...KEYS, "request"],
  args: [...ARGS, "requestRecord", "requestKeptForMs"],
  body: `${CREATE_FUNCTION}
local known_id, known_record, known_evicted, known_expire_time, known_store_time = unpack(redis.call(
  'HMGET', request, 'session_id', 'record', 'evicted', 'expire_time', 'store_time'))
if known_id and now < tonumber(known_expire_time) then
  local evicted, at = {}, 1
  while at <= #known_evicted do
    evicted[#evicted + 1], at = struct.unpack('>Bc0', known_evicted, at)
  end
  local known_key = probed(session_prefix .. known_id)
  local session, found = read(known_key), false
  -- A later session may have the same chosen id.
  if session and int(session.store_time) == known_store_time then
    found = pack(session, session.record)
  end
  return { 'repeated', int(now), known_id, found, evicted, known_record, known_expire_time, redis.call('EXISTS', key) }
end

local reply = create()
if reply[1] == 'created' then
  local expire_time = now + tonumber(request_kept_for_ms)
  local evicted = ''
  for _, other in ipairs(reply[4]) do evicted = evicted .. struct.pack('>Bc0', #other, other) end
  redis.call('HSET', request, 'session_id', id, 'record', request_record, 'evicted', evicted, 'expire_time', int(expire_time), 'store_time', int(now))
  redis.call('PEXPIREAT', request, int(expire_time))
end
return reply`,
  parse: (reply, args): CreateReply | RepeatedReply =>
    String((reply as [Buffer])[0]) === "repeated"
      ? parseRepeatedReply(reply)
      : parseCreateReply(reply, args),
});

function parseCreateReply(reply: unknown, { id }: Readonly<Record<"id", Argument>>): CreateReply {
  const [outcome, ...created] = reply as [Buffer, ...unknown[]];
  if (String(outcome) !== "created") {
    return { outcome: String(outcome) as Refusal };
  }
  const [time, bytes, evicted, times] = created as [Buffer, Buffer, Buffer[], Buffer[]];
  const session = factsIn(id, bytes, Number(time));
  return { outcome: "created", session, evicted: parseRevoked(evicted, times) };
}

function parseRepeatedReply(reply: unknown): RepeatedReply {
  const [, time, id, bytes, evicted, record, keptUntil, idCount] = reply as [
    outcome: Buffer,
    time: Buffer,
    id: Buffer,
    bytes: Buffer | null,
    evicted: Buffer[],
    record: Buffer,
    keptUntil: Buffer,
    idCount: number,
  ];
  const session = bytes === null ? undefined : sessionIn(id, bytes, Number(time));
  return {
    outcome: "repeated",
    creation: { repeated: record, session, evictedIds: evicted.map(fromStoredId) },
    keptUntilMs: Number(keptUntil),
    isIdInUse: idCount === 1,
  };
}
