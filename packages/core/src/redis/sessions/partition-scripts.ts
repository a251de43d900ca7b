import type { Partition } from "../../sessions/session-id.js";
import { type Author, NOBODY, type SessionChange } from "../../watch/author.js";
import type { SessionEventType } from "../../watch/session-event.js";
import type { RedisCommands } from "../connection/redis-commands.js";
import {
  type Argument,
  defineScript,
  RECLAIM_SLACK_MS,
  type Script,
  type ScriptCall,
} from "../connection/script.js";
import type { SessionKeys } from "./session-keys.js";
import { fromStoredId } from "./stored-id.js";
import { FACTS_BYTES, PACKING } from "./stored-session.js";

// Scripts that work on a partition. A script makes keys that depend on the data (the user of a
// session, the sessions of a user) from the two prefixes. They are in the same slot as its given
// keys. It reads every such key before it writes: during a resharding a key may be on another node,
// and then the script fails there with nothing changed.
//
// A session's score in `sessions` and `user_sessions` is its deadline. Once it has ended it is the
// negative of the time when it ended: from its revocation on, or from the sweep on that counts it as
// expired. So active sessions have scores above now, sessions to count have scores between 0 and now,
// and sessions to reclaim have scores between -(now - retention) and 0.
//
// An event's id in `session_events` is `<epoch>-<number>`: the time when the stream began, and
// consecutive numbers from 1 on, so that a reader sees a gap.

/** At least this many of a partition's newest events are kept, for the retention time. */
const MAX_EVENTS_PER_PARTITION = 1_000;

/** The keys that every script of a partition gets. */
const PARTITION_KEYS = ["sessions", "byCreateTime", "events"] as const;
/**
 * The arguments that every script of a partition gets: the retention of ended sessions and events,
 * the key prefixes of sessions and users, the channel for hints of new events, the partition, and the
 * author of the changes.
 */
const PARTITION_ARGS = [
  "retentionMs",
  "sessionPrefix",
  "userPrefix",
  "channel",
  "partition",
  "changedBy",
] as const;

type PartitionKey = (typeof PARTITION_KEYS)[number];
type PartitionArg = (typeof PARTITION_ARGS)[number];

/** What a script of a partition answers, and the changes that it made. */
interface Outcome<Reply> {
  readonly reply: Reply;
  readonly changes: readonly SessionChange[];
}

/** A script of a partition, with additional keys and arguments. */
export type PartitionScript<Key extends string, Arg extends string, Reply> = Script<
  PartitionKey | Key,
  PartitionArg | Arg,
  Outcome<Reply>
>;

const PRELUDE = `
local now = read_clock()
-- Sessions that ended by then are removed. A retention may be longer than all time so far.
local cutoff = math.max(0, now - tonumber(retention_ms))
local kept_for = tonumber(retention_ms) + ${RECLAIM_SLACK_MS}

-- Answers the key, or fails if it is on another node. The second key is known to be here: a node
-- that a slot moves to does not refuse a single missing key.
local function probed(key)
  redis.call('EXISTS', sessions, key)
  return key
end

${PACKING}
-- MGET answers nil where something else than a string is, such as what another program left there.
local function read(key)
  return unpack_session(redis.call('MGET', key)[1])
end

-- The session at key without its record, or nil. For scripts that look at many sessions: a record may
-- be much longer than the rest.
local function read_facts(key)
  local head = redis.pcall('GETRANGE', key, 0, ${FACTS_BYTES - 1})
  local session = type(head) == 'string' and unpack_session(head) or read(key)
  if session then session.record = nil end
  return session
end

local function write(key, session)
  assert(session.record, 'a session without its record must not be written')
  redis.call('SET', key, pack(session, session.record), 'KEEPTTL')
end

-- The active session at key, or nil, by \`read\` or another reader. A session that a sweep has counted as expired stays ended, even
-- if the clock was set back since.
local function read_active(key, reader)
  local session = (reader or read)(key)
  if not session or session.revoke_time or now >= session.expire_time then return nil end
  local score = redis.call('ZSCORE', sessions, string.sub(key, #session_prefix + 1))
  if not score or tonumber(score) > 0 then return session end
end

-- The replaced tokens of a session, as encodeReplacedTokens writes them.
local function replaced_of(session)
  local packed = session.replaced_tokens
  local replaced = { reuse_event_time = 0 }
  if not packed then return replaced end
  replaced.reuse_event_time = struct.unpack('>d', packed)
  for at = 9, #packed, 48 do
    local hash, time, grace_end = struct.unpack('>c32dd', packed, at)
    replaced[#replaced + 1] = { hash = hash, time = time, grace_end = grace_end }
  end
  return replaced
end

local function set_replaced(session, replaced)
  local parts = { struct.pack('>d', replaced.reuse_event_time) }
  for i, token in ipairs(replaced) do
    parts[i + 1] = struct.pack('>c32dd', token.hash, token.time, token.grace_end)
  end
  session.replaced_tokens = table.concat(parts)
end

-- When a token became invalid, or now if it is in its grace.
local function end_of(token)
  return math.max(token.time, math.min(token.grace_end, now))
end

-- A token in its grace counts as replaced now. 0, and not now: the servers' clocks may be late.
local function end_graces(replaced)
  for _, token in ipairs(replaced) do
    token.time, token.grace_end = end_of(token), 0
  end
end

-- Whether a token hash is the session's own, or of a replaced token in its grace.
local function is_proof(session, hash)
  if hash == session.token_hash then return true end
  for _, token in ipairs(replaced_of(session)) do
    if token.hash == hash then return now < token.grace_end end
  end
  return false
end

local function keep_until(key, time)
  local at = int(time + kept_for)
  if redis.call('PTTL', key) < 0 then
    redis.call('PEXPIREAT', key, at)
  else
    redis.call('PEXPIREAT', key, at, 'GT')
  end
end

-- Appends an event, which the script also answers. The first event of a script also publishes a hint.
local epoch
local appended = {}
local function append(type, id, user_id, version, reason)
  local event_id = epoch and epoch .. '-*'
  if not epoch then
    local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
    epoch = last and string.match(last[1], '^%d+') or int(now)
    -- By itself, Redis would begin with 0.
    event_id = epoch .. (last and '-*' or '-1')
    -- A hint. The Redis user may lack the permission, and that must not undo the rest.
    redis.pcall('PUBLISH', channel, partition)
  end
  -- Always all fields: then Redis stores events without the names.
  redis.call('XADD', events, 'MAXLEN', '~', ${MAX_EVENTS_PER_PARTITION}, event_id, 'type', type,
    'session_id', id, 'user_id', user_id, 'version', int(version), 'time', int(now), 'reason', reason,
    'changed_by', changed_by)
  appended[#appended + 1] = { type, id, user_id, int(version), reason }
  redis.call('PEXPIREAT', events, int(now + kept_for))
end

local function index(id, user_key, score)
  redis.call('ZADD', sessions, int(score), id)
  redis.call('ZADD', user_key, int(score), id)
end

-- Revokes an active session. Its user's key must have been probed.
local function revoke(type, id, session, reason)
  local key = session_prefix .. id
  session.version = session.version + 1
  session.revoke_time, session.revoke_reason = now, reason
  session.token_hash, session.replaced_tokens, session.rotation_request = '', nil, nil
  write(key, session)
  redis.call('PEXPIREAT', key, int(now + kept_for))
  index(id, user_prefix .. session.user_id, -now)
  append(type, id, session.user_id, session.version, reason)
end

-- Moves the idle deadline of an active session. A clock that was set back moves no deadline back.
local function move_deadline(key, id, session)
  local last_access = math.max(now, session.last_access_time)
  local deadline = math.min(last_access + session.idle_timeout, session.absolute_expire_time)
  session.last_access_time = last_access
  session.expire_time = math.max(deadline, session.expire_time)
  local user_key = probed(user_prefix .. session.user_id)
  keep_until(key, session.expire_time)
  index(id, user_key, session.expire_time)
  keep_until(user_key, session.expire_time)
end
`;

/**
 * Makes a script of a partition. Its own keys and arguments follow the shared ones. What its body
 * returns is its reply, beside the changes that it appended.
 */
export function definePartitionScript<Key extends string, Arg extends string, Reply>(spec: {
  readonly flags: "allow-oom" | "deny-oom";
  readonly keys: readonly Key[];
  readonly args: readonly Arg[];
  readonly body: string;
  readonly parse: (reply: unknown, args: Readonly<Record<Arg, Argument>>) => Reply;
}): PartitionScript<Key, Arg, Reply> {
  return defineScript({
    ...spec,
    keys: [...PARTITION_KEYS, ...spec.keys],
    args: [...PARTITION_ARGS, ...spec.args],
    body: `${PRELUDE}
local function answer()
${spec.body}
end
local reply = answer()
return { appended, reply }`,
    parse: (reply, args) => {
      // Redis leaves out a nil at the end.
      const [changes, own = null] = reply as [readonly Buffer[][], unknown];
      return { reply: spec.parse(own, args), changes: changes.map(toChange) };
    },
  });
}

type ChangeFields = [type: Buffer, id: Buffer, userId: Buffer, version: Buffer, reason: Buffer];

function toChange(fields: readonly Buffer[]): SessionChange {
  const [name, id, userId, version, reason] = fields as ChangeFields;
  const type = String(name) as SessionEventType;
  return {
    type,
    sessionId: fromStoredId(id),
    userId: String(userId),
    version: Number(version),
    ...(isEnd(type) && { reason: String(reason) }),
  };
}

/** Whether a session ended by an event of this type, which then has a reason. */
export function isEnd(type: string | undefined): boolean {
  return type === "revoked" || type === "evicted";
}

/** Runs scripts of partitions with their shared keys and arguments, for the author of the changes. */
export class PartitionScripts {
  readonly #commands: RedisCommands;
  readonly #keys: SessionKeys;
  readonly #retentionMs: number;
  readonly #author: Author;

  constructor(
    commands: RedisCommands,
    keys: SessionKeys,
    retentionMs: number,
    author: Author = NOBODY,
  ) {
    this.#commands = commands;
    this.#keys = keys;
    this.#retentionMs = retentionMs;
    this.#author = author;
  }

  /** As `RedisCommands.run`. */
  async run<Key extends string, Arg extends string, Reply>(
    script: PartitionScript<Key, Arg, Reply>,
    partition: Partition,
    own: ScriptCall<Key, Arg>,
    isReplicated = false,
    made?: (answer: Reply) => void,
  ): Promise<Reply> {
    const keys: Record<PartitionKey, string> = {
      sessions: this.#keys.sessions(partition),
      byCreateTime: this.#keys.sessionsByCreateTime(partition),
      events: this.#keys.sessionEvents(partition),
    };
    const args: Record<PartitionArg, Argument> = {
      retentionMs: this.#retentionMs,
      sessionPrefix: this.#keys.sessionPrefix(partition),
      userPrefix: this.#keys.userSessionsPrefix(partition),
      channel: this.#keys.eventChannel(),
      partition,
      changedBy: this.#author.name,
    };
    const call = { ...own, keys: { ...keys, ...own.keys }, args: { ...args, ...own.args } };
    const tell = ({ reply, changes }: Outcome<Reply>) => {
      for (const change of changes) this.#author.changed(change);
      made?.(reply);
    };
    return (await this.#commands.run(script, call, isReplicated, tell)).reply;
  }
}
