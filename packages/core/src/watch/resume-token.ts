import { hash } from "node:crypto";
import { crc32, deflateRawSync, inflateRawSync } from "node:zlib";
import { invalidArgument } from "../errors.js";
import { LIMITS } from "../validation.js";
import type { EventCursor, EventPosition } from "./session-event.js";

const PLAIN = 1;
const DEFLATED = 2;
const CHECKSUM_BYTES = 4;
/** Longer tokens are deflated. For a short token deflating would cost more than all other steps. */
const MAX_PLAIN_BYTES = 256;
/** More than any store has. Bounds the cursor that a forged token can make us build. */
const MAX_LANES = 4096;
const MAX_INFLATED_BYTES = 256 * 1024;

/** What a watch tells of. */
export interface WatchFilter {
  /** "" by default. */
  readonly namespace?: string;
  /** All users if undefined. */
  readonly userId: string | undefined;
}

/**
 * The JSON in a token: the watch's filter, the earliest time of all positions (safe for each of
 * them), the sources, and four numbers for each lane: its distance from the previous lane, the
 * index of its source, its epoch minus the earliest time (null for epoch 0), and its sequence.
 */
type TokenJson = [filter: string, timeMs: number, sources: number[], lanes: (number | null)[]];

/**
 * Writes a cursor of the event log as an opaque token for watches with the same filter: the user,
 * or all users, of a namespace. It gives
 * access to nothing, so it is neither sealed nor signed. The checksum finds cut or mistyped tokens.
 *
 *     format (1 byte) | JSON, plain or deflated | CRC-32
 *
 * 256 busy lanes take about 2 KB, 256 empty lanes about 100 bytes.
 */
export function formatResumeToken(filter: WatchFilter, cursor: EventCursor): string {
  const entries = [...cursor].sort(([a], [b]) => a - b);
  const timeMs = Math.min(...entries.map(([, position]) => position.timeMs));
  const sources = [...new Set(entries.map(([, { source }]) => source))];
  const lanes = entries.flatMap(([lane, { source, epoch, sequence }], i) => [
    lane - (entries[i - 1]?.[0] ?? 0),
    sources.indexOf(source),
    epoch === 0 ? null : epoch - timeMs,
    sequence,
  ]);
  const json: TokenJson = [fingerprintOf(filter), timeMs, sources, lanes];
  const plain = Buffer.from(JSON.stringify(json));
  const isPlain = plain.length <= MAX_PLAIN_BYTES;
  const body = Buffer.concat([
    Buffer.of(isPlain ? PLAIN : DEFLATED),
    isPlain ? plain : deflateRawSync(plain, { level: 1 }),
  ]);
  const checksum = Buffer.alloc(CHECKSUM_BYTES);
  checksum.writeUInt32BE(crc32(body));
  return Buffer.concat([body, checksum]).toString("base64url");
}

/**
 * Reads a token of the same filter. Throws INVALID_ARGUMENT naming `resume_token` for any other.
 */
export function parseResumeToken(filter: WatchFilter, token: string): EventCursor {
  const json = token.length > LIMITS.resumeTokenBytes ? undefined : jsonOf(token);
  const cursor = json && cursorOf(json);
  if (cursor === undefined) {
    throw invalidArgument("resume_token", "expected the resume_token of an earlier message");
  }
  if (json?.[0] !== fingerprintOf(filter)) {
    throw invalidArgument(
      "resume_token",
      "it belongs to a watch with another user_id, or in another namespace",
    );
  }
  return cursor;
}

/** No namespace contains a space, so no two filters look alike. */
function fingerprintOf({ namespace = "", userId }: WatchFilter): string {
  const filter = userId === undefined ? "all" : `user ${userId}`;
  const text = namespace === "" ? filter : `in ${namespace} ${filter}`;
  return hash("sha256", text, "base64url").slice(0, 8);
}

/** The JSON in a token. Undefined if the token is spelt in another way than we spell it. */
function jsonOf(token: string): readonly unknown[] | undefined {
  const bytes = Buffer.from(token, "base64url");
  // Buffer skips what is not base64url and ignores loose trailing bits.
  if (bytes.toString("base64url") !== token || bytes.length <= CHECKSUM_BYTES) return undefined;
  const body = bytes.subarray(0, -CHECKSUM_BYTES);
  if (bytes.readUInt32BE(body.length) !== crc32(body)) return undefined;
  const text = body.subarray(1);
  try {
    const limit = { maxOutputLength: MAX_INFLATED_BYTES };
    const plain = body[0] === DEFLATED ? inflateRawSync(text, limit) : text;
    const json: unknown = JSON.parse(plain.toString());
    return Array.isArray(json) ? json : undefined;
  } catch {
    return undefined;
  }
}

/** Undefined for JSON that `formatResumeToken` does not write. */
function cursorOf([, timeMs, sources, lanes]: readonly unknown[]): EventCursor | undefined {
  if (!Array.isArray(sources) || !Array.isArray(lanes) || !isWhole(timeMs)) return undefined;
  if (lanes.length === 0 || lanes.length % 4 !== 0 || lanes.length > 4 * MAX_LANES)
    return undefined;
  const cursor = new Map<number, EventPosition>();
  let lane = 0;
  for (let i = 0; i < lanes.length; i += 4) {
    const [distance, index, age, sequence] = lanes.slice(i, i + 4);
    lane += Number(distance);
    const source: unknown = sources[index];
    const epoch = age === null ? 0 : timeMs + Number(age);
    if (![lane, source, epoch, sequence].every(isWhole) || cursor.has(lane)) return undefined;
    cursor.set(lane, { source: Number(source), epoch, sequence, timeMs });
  }
  return cursor;
}

function isWhole(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}
