import { hashesEqual } from "./session-token.js";

/** How many replaced tokens a session remembers. */
export const MAX_REPLACED_TOKENS = 8;
/** The longest grace of a replaced token. */
export const MAX_GRACE_MS = 60_000;
/** A session gets at most one `token_reused` event in this time, so that an attacker adds few. */
export const REUSE_EVENT_INTERVAL_MS = 60_000;
/**
 * A token that is presented this soon after it was replaced, or after its grace, revokes nothing:
 * the request may have been on its way, or have lost a race of two rotations.
 */
export const REUSE_TOLERANCE_MS = 10_000;
/** The recorded reason of a revocation after a reuse. */
export const REUSE_REASON = "token reused";

/** A token that a rotation replaced. All times are ms since the Unix epoch, by the store's clock. */
interface ReplacedToken {
  /** 32 bytes. */
  readonly tokenHash: Uint8Array;
  /** When it was replaced, or when its grace was ended by a change. */
  readonly replaceTimeMs: number;
  /**
   * The token is still as good as the session's own before this time. 0 without a grace: a clock
   * that is late, or was set back, must not bring the token back.
   */
  readonly graceEndTimeMs: number;
}

/** The replaced tokens of a session. */
interface ReplacedTokens {
  /** When the last `token_reused` event was appended; 0 if there is none. */
  readonly reuseEventTimeMs: number;
  /** At most `MAX_REPLACED_TOKENS`, oldest first. */
  readonly tokens: readonly ReplacedToken[];
}

const HASH_BYTES = 32;
const TIME_BYTES = 8;
const TOKEN_BYTES = HASH_BYTES + 2 * TIME_BYTES;

/**
 * Writes replaced tokens as stores keep them: the time of the last event, then the hash and the two
 * times of each token. A time is a big-endian double, which Lua in Redis can write too.
 */
function encodeReplacedTokens({ reuseEventTimeMs, tokens }: ReplacedTokens): Uint8Array {
  const bytes = Buffer.alloc(TIME_BYTES + tokens.length * TOKEN_BYTES);
  bytes.writeDoubleBE(reuseEventTimeMs);
  for (const [i, token] of tokens.entries()) {
    const at = TIME_BYTES + i * TOKEN_BYTES;
    bytes.set(token.tokenHash, at);
    bytes.writeDoubleBE(token.replaceTimeMs, at + HASH_BYTES);
    bytes.writeDoubleBE(token.graceEndTimeMs, at + HASH_BYTES + TIME_BYTES);
  }
  return bytes;
}

/** Reads what `encodeReplacedTokens` wrote. Empty bytes are of a session that was never rotated. */
function decodeReplacedTokens(encoded: Uint8Array): ReplacedTokens {
  if (encoded.length === 0) return { reuseEventTimeMs: 0, tokens: [] };
  const bytes = Buffer.from(encoded.buffer, encoded.byteOffset, encoded.length);
  const tokens: ReplacedToken[] = [];
  for (let at = TIME_BYTES; at < bytes.length; at += TOKEN_BYTES) {
    tokens.push({
      tokenHash: bytes.subarray(at, at + HASH_BYTES),
      replaceTimeMs: bytes.readDoubleBE(at + HASH_BYTES),
      graceEndTimeMs: bytes.readDoubleBE(at + HASH_BYTES + TIME_BYTES),
    });
  }
  return { reuseEventTimeMs: bytes.readDoubleBE(0), tokens };
}

/** The replaced token with this hash, if the session remembers it. */
export function findReplacedToken(
  encoded: Uint8Array,
  tokenHash: Uint8Array,
): ReplacedToken | undefined {
  return decodeReplacedTokens(encoded).tokens.find((token) =>
    hashesEqual(token.tokenHash, tokenHash),
  );
}

/** Whether a token hash is the session's own, or of a replaced token in its grace. */
export function isProof(
  session: { readonly tokenHash: Uint8Array; readonly replacedTokens: Uint8Array },
  tokenHash: Uint8Array,
  nowMs: number,
): boolean {
  if (hashesEqual(session.tokenHash, tokenHash)) return true;
  const replaced = findReplacedToken(session.replacedTokens, tokenHash);
  return replaced !== undefined && nowMs < replaced.graceEndTimeMs;
}

/** What it means that a refused token was presented. */
export function judgeReuse(
  encoded: Uint8Array,
  tokenHash: Uint8Array,
  nowMs: number,
): {
  /** Whether a `token_reused` event is due. */
  readonly isEventDue: boolean;
  /** Whether it has been invalid for so long that no honest request can have it. */
  readonly isTheft: boolean;
} {
  const { reuseEventTimeMs, tokens } = decodeReplacedTokens(encoded);
  const replaced = tokens.find((token) => hashesEqual(token.tokenHash, tokenHash));
  if (replaced === undefined || nowMs < replaced.graceEndTimeMs) {
    return { isEventDue: false, isTheft: false };
  }
  return {
    isEventDue: nowMs - reuseEventTimeMs >= REUSE_EVENT_INTERVAL_MS,
    isTheft: nowMs - endTimeOf(replaced, nowMs) > REUSE_TOLERANCE_MS,
  };
}

/**
 * The replaced tokens of a session whose token is replaced now. Forgets the oldest if there are too
 * many. Without a grace, no token is in its grace any more.
 */
export function withReplacedToken(
  session: { readonly tokenHash: Uint8Array; readonly replacedTokens: Uint8Array },
  nowMs: number,
  graceMs: number,
): Uint8Array {
  const earlier =
    graceMs === 0 ? withoutGraces(session.replacedTokens, nowMs) : session.replacedTokens;
  const { reuseEventTimeMs, tokens } = decodeReplacedTokens(earlier);
  const { tokenHash } = session;
  const graceEndTimeMs = graceMs === 0 ? 0 : nowMs + graceMs;
  const token = { tokenHash, replaceTimeMs: nowMs, graceEndTimeMs };
  const newest = [...tokens, token].slice(-MAX_REPLACED_TOKENS);
  return encodeReplacedTokens({ reuseEventTimeMs, tokens: newest });
}

/** When a token became invalid, or now if it is in its grace. */
function endTimeOf({ replaceTimeMs, graceEndTimeMs }: ReplacedToken, nowMs: number): number {
  return Math.max(replaceTimeMs, Math.min(graceEndTimeMs, nowMs));
}

/** Replaced tokens with no token in its grace. A token that was counts as replaced now. */
export function withoutGraces(encoded: Uint8Array, nowMs: number): Uint8Array {
  const { reuseEventTimeMs, tokens } = decodeReplacedTokens(encoded);
  const ended = tokens.map((token) => ({
    tokenHash: token.tokenHash,
    replaceTimeMs: endTimeOf(token, nowMs),
    graceEndTimeMs: 0,
  }));
  return encodeReplacedTokens({ reuseEventTimeMs, tokens: ended });
}

/** Replaced tokens after a `token_reused` event. */
export function withReuseEvent(encoded: Uint8Array, nowMs: number): Uint8Array {
  return encodeReplacedTokens({ ...decodeReplacedTokens(encoded), reuseEventTimeMs: nowMs });
}
