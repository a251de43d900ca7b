import { hash } from "node:crypto";
import { crc32 } from "node:zlib";
import { invalidArgument } from "../errors.js";
import { LIMITS } from "../validation.js";
import type { EventCursor, EventPosition } from "./session-event.js";

const VERSION = 1;
const FILTER_BYTES = 6;
const CHECKSUM_BYTES = 4;
/** More than any store has; bounds what a made-up token can make its reader build. */
const MAX_LANES = 4096;

/**
 * Writes a place in the event log as an opaque token that is good for the same
 * user, or for all users, only. It is no secret and gives access to nothing, so
 * it is neither sealed nor signed; the checksum is for what gets cut or mistyped.
 *
 *     version | filter (6 bytes) | earliest time | sources | lanes | positions | CRC-32
 *
 * Numbers are varints. What most lanes share is written once: the sources are a
 * table, the lanes are runs of consecutive numbers, epochs count from the earliest
 * one, and of the times only the earliest is kept, which is a safe one for all.
 * So 256 busy lanes take about 2 KB, and 256 empty ones some 40 bytes.
 */
export function formatResumeToken(userId: string | undefined, cursor: EventCursor): string {
  const lanes = [...cursor.keys()].sort((a, b) => a - b);
  const positions = lanes.map((lane) => cursor.get(lane)).filter((place) => place !== undefined);
  const sources = [...new Set(positions.map(({ source }) => source))];
  const baseEpoch = Math.min(...positions.filter(hasEpoch).map(({ epoch }) => epoch));

  const bytes = [VERSION, ...filterBytes(userId)];
  writeNumber(bytes, Math.min(...positions.map(({ timeMs }) => timeMs)));
  writeNumber(bytes, sources.length);
  for (const source of sources) writeNumber(bytes, source);
  writeNumber(bytes, Number.isFinite(baseEpoch) ? baseEpoch : 0);
  writeLanes(bytes, lanes);
  for (let i = 0; i < positions.length; ) {
    i += writePosition(bytes, positions, i, (position) => {
      const epoch = hasEpoch(position) ? position.epoch - baseEpoch + 1 : 0;
      return epoch * sources.length + sources.indexOf(position.source);
    });
  }
  const body = Buffer.from(bytes);
  const checksum = Buffer.alloc(CHECKSUM_BYTES);
  checksum.writeUInt32BE(crc32(body));
  return Buffer.concat([body, checksum]).toString("base64url");
}

/** Reads a token made for this very user, or for all. Throws INVALID_ARGUMENT naming `resume_token` otherwise. */
export function parseResumeToken(userId: string | undefined, token: string): EventCursor {
  const body = checkedBody(token);
  if (body === undefined) throw malformed();
  const filter = body.subarray(1, 1 + FILTER_BYTES);
  if (!filter.equals(Buffer.from(filterBytes(userId)))) {
    throw invalidArgument("resume_token", "it belongs to a watch with another user_id");
  }
  const cursor = readCursor(new NumberReader(body.subarray(1 + FILTER_BYTES)));
  if (cursor === undefined) throw malformed();
  return cursor;
}

function malformed(): Error {
  return invalidArgument("resume_token", "expected the resume_token of an earlier message");
}

/** The bytes before the checksum, if the token is spelt as it was written. */
function checkedBody(token: string): Buffer | undefined {
  if (token.length > LIMITS.resumeTokenBytes) return undefined;
  const bytes = Buffer.from(token, "base64url");
  // Buffer skips what is not base64url and ignores loose trailing bits.
  if (bytes.toString("base64url") !== token) return undefined;
  if (bytes.length < 1 + FILTER_BYTES + CHECKSUM_BYTES || bytes[0] !== VERSION) return undefined;
  const body = bytes.subarray(0, -CHECKSUM_BYTES);
  return bytes.readUInt32BE(body.length) === crc32(body) ? body : undefined;
}

function filterBytes(userId: string | undefined): Uint8Array {
  const filter = userId === undefined ? "all" : `user ${userId}`;
  return hash("sha256", filter, "buffer").subarray(0, FILTER_BYTES);
}

function hasEpoch({ epoch }: EventPosition): boolean {
  return epoch !== 0;
}

/** Writes the runs of consecutive lanes, each as its distance from the last and its length. */
function writeLanes(bytes: number[], lanes: readonly number[]): void {
  const starts = lanes.flatMap((lane, i) => (i > 0 && lanes[i - 1] === lane - 1 ? [] : [i]));
  writeNumber(bytes, starts.length);
  let next = 0;
  for (const [run, start] of starts.entries()) {
    const first = lanes[start] ?? 0;
    const length = (starts[run + 1] ?? lanes.length) - start;
    writeNumber(bytes, first - next);
    writeNumber(bytes, length);
    next = first + length;
  }
}

/** Writes a position; one without events with those that follow and are the same. Answers how many. */
function writePosition(
  bytes: number[],
  positions: readonly EventPosition[],
  start: number,
  originOf: (position: EventPosition) => number,
): number {
  const position = positions[start];
  if (position === undefined) return 1;
  const origin = originOf(position);
  writeNumber(bytes, origin);
  writeNumber(bytes, position.sequence);
  if (position.sequence > 0) return 1;
  const isSame = (other: EventPosition) => other.sequence === 0 && originOf(other) === origin;
  let end = start + 1;
  for (let other = positions[end]; other && isSame(other); other = positions[end]) end++;
  writeNumber(bytes, end - start - 1);
  return end - start;
}

/** As `formatResumeToken` wrote it; undefined for anything else. */
function readCursor(numbers: NumberReader): EventCursor | undefined {
  const timeMs = numbers.next();
  const sources = readSources(numbers);
  const baseEpoch = numbers.next();
  const lanes = readLanes(numbers);
  if (sources.length === 0 || lanes.length === 0) return undefined;

  const cursor = new Map<number, EventPosition>();
  while (cursor.size < lanes.length && !numbers.hasFailed) {
    const origin = numbers.next();
    const sequence = numbers.next();
    const repeated = sequence === 0 ? numbers.next() : 0;
    const source = sources[origin % sources.length] ?? 0;
    const delta = Math.floor(origin / sources.length);
    const epoch = delta === 0 ? 0 : baseEpoch + delta - 1;
    if (!Number.isSafeInteger(epoch) || repeated >= lanes.length - cursor.size) return undefined;
    for (const lane of lanes.slice(cursor.size, cursor.size + repeated + 1)) {
      cursor.set(lane, { source, epoch, sequence, timeMs });
    }
  }
  return numbers.hasFailed || !numbers.isAtEnd ? undefined : cursor;
}

function readSources(numbers: NumberReader): readonly number[] {
  const count = numbers.next();
  if (count > MAX_LANES) return [];
  return Array.from({ length: count }, () => numbers.next());
}

function readLanes(numbers: NumberReader): readonly number[] {
  const lanes: number[] = [];
  let next = 0;
  for (let runs = numbers.next(); runs > 0 && !numbers.hasFailed; runs--) {
    const first = next + numbers.next();
    const length = numbers.next();
    if (!Number.isSafeInteger(first + length) || lanes.length + length > MAX_LANES) return [];
    for (let lane = first; lane < first + length; lane++) lanes.push(lane);
    next = first + length;
  }
  return lanes;
}

/** As protobuf's varints, but up to 2^53 and without its operators, which stop at 2^32. */
function writeNumber(bytes: number[], value: number): void {
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) + 0x80);
    rest = Math.floor(rest / 0x80);
  }
  bytes.push(rest);
}

/** Reads numbers for as long as there are any; from then on zeros, and says so. */
class NumberReader {
  readonly #bytes: Uint8Array;
  #offset = 0;
  hasFailed = false;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#offset === this.#bytes.length;
  }

  next(): number {
    let value = 0;
    for (let scale = 1; scale <= Number.MAX_SAFE_INTEGER; scale *= 0x80) {
      const byte = this.#bytes[this.#offset++];
      if (byte === undefined) break;
      value += (byte % 0x80) * scale;
      if (byte < 0x80) {
        if (Number.isSafeInteger(value)) return value;
        break;
      }
    }
    this.hasFailed = true;
    return 0;
  }
}
