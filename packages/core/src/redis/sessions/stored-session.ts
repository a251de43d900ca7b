import { storeUnavailable } from "../../errors.js";
import { sessionState } from "../../sessions/session.js";
import type { ListQuery, StoredFacts, StoredSession } from "../../sessions/session-store.js";
import type { Argument } from "../connection/script.js";
import { fromStoredId } from "./stored-id.js";

// A session is one string, because each field of a hash costs Redis some 80 bytes. What a touch
// changes is in its first bytes, which a script can overwrite without the rest. Numbers are
// big-endian, times are ms since the Unix epoch.
//
//     format (1 byte) | version (4) | create time (6) | authenticate time (6) | last access time (6)
//     | idle timeout (6) | expire time (6) | absolute expire time (6) | token create time (6)
//     | store time (6) | lengths of token hash (1), user id (2) and extras (2) | token hash | user id
//     | extras | record
//
// Most sessions have no extras. Each is a tag (1 byte), a length (2) and that many bytes:
//
//     "R"  a revocation: its time (6) and reason
//     "T"  the replaced tokens, as `encodeReplacedTokens` writes them
//     "Q"  the request of the newest rotation, as `encodeRotationRequest` writes it
//     "F"  for each lock that fences the session: the length of its name (2), the name, and the
//          fencing token (8, a double)

/** The first byte of a session. Bytes that begin otherwise are no session. */
const SESSION_FORMAT = 1;

const TIMES_AT = 5;
const TIME_BYTES = 6;
const LENGTHS_AT = TIMES_AT + 8 * TIME_BYTES;
const HEAD_BYTES = LENGTHS_AT + 5;
const EXTRA_HEAD_BYTES = 3;

const REVOCATION = "R".charCodeAt(0);
const REPLACED_TOKENS = "T".charCodeAt(0);

const NONE = new Uint8Array();

/** Nearly every session is as long as this without its record, or shorter. */
export const FACTS_BYTES = 512;

/** The functions of scripts that write and read this format. */
export const PACKING = `
local function pack_head(session)
  return struct.pack('>BI4I6I6I6I6I6I6I6I6', ${SESSION_FORMAT}, session.version, session.create_time,
    session.authenticate_time, session.last_access_time, session.idle_timeout, session.expire_time,
    session.absolute_expire_time, session.token_create_time, session.store_time)
end

-- Without a record: the answer for a server that already has the record.
local function pack(session, record)
  local extras = ''
  local function add(tag, bytes)
    if bytes then extras = extras .. struct.pack('>BI2', string.byte(tag), #bytes) .. bytes end
  end
  add('R', session.revoke_time and struct.pack('>I6', session.revoke_time) .. session.revoke_reason)
  add('T', session.replaced_tokens)
  add('Q', session.rotation_request)
  add('F', session.fences)
  -- The limits of a session keep its extras far below 64 KiB. A larger length does not fit into two
  -- bytes, and a cut length would lose the record.
  assert(#extras < 65536, 'too many extras')
  return pack_head(session) .. struct.pack('>BI2I2', #session.token_hash, #session.user_id, #extras)
    .. session.token_hash .. session.user_id .. extras .. (record or '')
end

-- Nil for what is no session.
local function unpack_session(bytes)
  if not bytes or #bytes < ${HEAD_BYTES} or string.byte(bytes) ~= ${SESSION_FORMAT} then return nil end
  local _, session, hash_length, user_length, extras_length, at = nil, {}, 0, 0, 0, 0
  _, session.version, session.create_time, session.authenticate_time, session.last_access_time,
    session.idle_timeout, session.expire_time, session.absolute_expire_time,
    session.token_create_time, session.store_time, hash_length, user_length, extras_length, at =
    struct.unpack('>BI4I6I6I6I6I6I6I6I6BI2I2', bytes)
  if at - 1 + hash_length + user_length + extras_length > #bytes then return nil end
  local function take(length)
    at = at + length
    return string.sub(bytes, at - length, at - 1)
  end
  session.token_hash, session.user_id = take(hash_length), take(user_length)
  local extras_end = at + extras_length
  while at < extras_end do
    local tag, length = take(1), struct.unpack('>I2', take(2))
    local extra = take(length)
    if tag == 'R' then
      session.revoke_time, session.revoke_reason = struct.unpack('>I6', extra), string.sub(extra, 7)
    elseif tag == 'T' then
      session.replaced_tokens = extra
    elseif tag == 'Q' then
      session.rotation_request = extra
    elseif tag == 'F' then
      session.fences = extra
    end
  end
  session.record = string.sub(bytes, at)
  return session
end
`;

/** A session in Redis, read at `readTimeMs`. Undefined for bytes that are no session. */
export function toStoredSession(
  id: string,
  bytes: Buffer,
  readTimeMs: number,
): StoredSession | undefined {
  if (bytes.length < HEAD_BYTES || bytes[0] !== SESSION_FORMAT) return undefined;
  const { userAt, extrasAt, recordAt } = partsOf(bytes);
  if (recordAt > bytes.length) return undefined;
  const facts = toStoredFacts(id, bytes, readTimeMs);
  // Not a spread, which would take as long as parsing.
  return Object.assign(facts, {
    record: bytes.subarray(recordAt),
    tokenHash: bytes.subarray(HEAD_BYTES, userAt),
    replacedTokens: extraOf(bytes, extrasAt, recordAt, REPLACED_TOKENS) ?? NONE,
  });
}

/** The facts of a session in Redis, read at `readTimeMs`. */
export function toStoredFacts(id: string, bytes: Buffer, readTimeMs: number): StoredFacts {
  const timeOf = (nth: number) => bytes.readUIntBE(TIMES_AT + nth * TIME_BYTES, TIME_BYTES);
  const { userAt, extrasAt, recordAt } = partsOf(bytes);
  const revocation = extraOf(bytes, extrasAt, recordAt, REVOCATION);
  return {
    id,
    userId: bytes.toString("utf8", userAt, extrasAt),
    version: bytes.readUInt32BE(1),
    createTimeMs: timeOf(0),
    authenticateTimeMs: timeOf(1),
    lastAccessTimeMs: timeOf(2),
    idleTimeoutMs: timeOf(3),
    expireTimeMs: timeOf(4),
    absoluteExpireTimeMs: timeOf(5),
    tokenCreateTimeMs: timeOf(6),
    storeTimeMs: timeOf(7),
    readTimeMs,
    ...(revocation && {
      revokeTimeMs: revocation.readUIntBE(0, TIME_BYTES),
      revokeReason: revocation.toString("utf8", TIME_BYTES),
    }),
  };
}

/** Where the user id, the extras and the record begin. */
function partsOf(bytes: Buffer) {
  const userAt = HEAD_BYTES + bytes.readUInt8(LENGTHS_AT);
  const extrasAt = userAt + bytes.readUInt16BE(LENGTHS_AT + 1);
  return { userAt, extrasAt, recordAt: extrasAt + bytes.readUInt16BE(LENGTHS_AT + 3) };
}

/** The bytes of the extra with a tag, among those between two positions. */
function extraOf(bytes: Buffer, from: number, to: number, tag: number): Buffer | undefined {
  for (let at = from; at < to; ) {
    const start = at + EXTRA_HEAD_BYTES;
    const end = start + bytes.readUInt16BE(at + 1);
    if (bytes[at] === tag) return bytes.subarray(start, end);
    at = end;
  }
  return undefined;
}

/** The session that a script answered. */
export function sessionIn(storedId: Argument, bytes: Buffer, readTimeMs: number): StoredSession {
  const session = toStoredSession(fromStoredId(storedId as Buffer), bytes, readTimeMs);
  if (session === undefined) throw storeUnavailable("a script answered what is no session");
  return session;
}

/** The facts of the session that a script answered, with or without its record. */
export function factsIn(storedId: Argument, bytes: Buffer, readTimeMs: number): StoredFacts {
  return toStoredFacts(fromStoredId(storedId as Buffer), bytes, readTimeMs);
}

/** The session in a string, if it is active at `now`. */
export function activeSession(
  id: string,
  bytes: Buffer | null,
  now: number,
): StoredSession | undefined {
  const session = bytes === null ? undefined : toStoredSession(id, bytes, now);
  return session && sessionState(session, now) === "active" ? session : undefined;
}

/** A list of the session in a string, or an empty list if the query does not ask for its state. */
export function listedSession(
  id: string,
  bytes: Buffer | null,
  query: ListQuery,
  now: number,
): StoredSession[] {
  const session = bytes === null ? undefined : toStoredSession(id, bytes, now);
  if (session === undefined) return [];
  const state = sessionState(session, now);
  const isWanted =
    state === "active" ||
    (state === "expired" && query.showExpired) ||
    (state === "revoked" && query.showRevoked);
  return isWanted ? [session] : [];
}
