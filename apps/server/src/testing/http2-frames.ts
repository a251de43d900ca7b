/** Frames of HTTP/2 (RFC 9113, 6), written by hand: what no library's client would send. */

const TYPES = {
  DATA: 0,
  HEADERS: 1,
  RST_STREAM: 3,
  SETTINGS: 4,
  PING: 6,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
} as const;

export const END_STREAM = 0x1;
export const END_HEADERS = 0x4;

/** How every connection of a client begins, before its SETTINGS. */
export const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
export const NO_SETTINGS = frame("SETTINGS", { stream: 0 });
const INITIAL_WINDOW_SIZE = 4;

interface FrameOptions {
  readonly stream: number;
  readonly flags?: number;
  readonly payload?: Buffer;
}

/** One frame. */
export function frame(
  type: keyof typeof TYPES,
  { stream, flags = 0, payload = Buffer.alloc(0) }: FrameOptions,
): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(TYPES[type], 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** SETTINGS with which the server may send nothing on a stream. */
export function zeroWindow(): Buffer {
  const payload = Buffer.alloc(6);
  payload.writeUInt16BE(INITIAL_WINDOW_SIZE, 0);
  return frame("SETTINGS", { stream: 0, payload });
}

/** A RST_STREAM frame with CANCEL. */
export function cancel(stream: number): Buffer {
  return frame("RST_STREAM", { stream, payload: Buffer.from([0, 0, 0, 8]) });
}

/** DATA frames of one byte each. */
export function singleBytes(stream: number, bytes: Buffer): Buffer {
  const frames = Array.from(bytes, (byte) =>
    frame("DATA", { stream, payload: Buffer.from([byte]) }),
  );
  return Buffer.concat(frames);
}

/** Headers as HPACK literals without an index (RFC 7541, 6.2.2). */
export function headerBlock(headers: Readonly<Record<string, string>>): Buffer {
  const fields = Object.entries(headers).map(([name, value]) =>
    Buffer.concat([Buffer.from([0]), text(name), text(value)]),
  );
  return Buffer.concat(fields);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([length(bytes.length), bytes]);
}

/** An integer with a prefix of seven bits (RFC 7541, 5.1). */
function length(value: number): Buffer {
  if (value < 127) return Buffer.from([value]);
  const bytes = [127];
  let rest = value - 127;
  for (; rest >= 128; rest >>= 7) bytes.push((rest & 127) | 128);
  return Buffer.from([...bytes, rest]);
}
