import { createBrotliDecompress, createGunzip, createInflate } from "node:zlib";
import { Code, ConnectError } from "@connectrpc/connect";
import { toConnectError } from "../services/rpc-error.js";
import { tooMuchAtOnce } from "./too-much.js";

const FORMATS = { gzip: createGunzip, deflate: createInflate, br: createBrotliDecompress };
type Compression = keyof typeof FORMATS;

/** What an inflated message may take. */
interface InflateLimits {
  readonly maxBytes: number;
  /** Asked before each part is kept. False means that there is no room for it. */
  readonly take: (bytes: number) => boolean;
}

/**
 * Inflates a message, and stops where a limit is reached: a few kilobytes may become a thousand times
 * as many. Rejects with a ConnectError.
 */
export function inflate(
  bytes: Uint8Array,
  format: Compression,
  { maxBytes, take }: InflateLimits,
): Promise<Buffer<ArrayBuffer>> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer<ArrayBuffer>>();
  const parts: Buffer[] = [];
  let length = 0;
  const inflater = FORMATS[format]();
  const fail = (error: ConnectError) => {
    inflater.destroy();
    reject(error);
  };
  inflater.on("data", (part: Buffer) => {
    length += part.length;
    if (length > maxBytes) fail(tooLong(maxBytes));
    else if (take(part.length)) parts.push(part);
    else fail(toConnectError(tooMuchAtOnce("buffered_bytes")));
  });
  inflater.on("end", () => resolve(Buffer.concat(parts, length)));
  inflater.on("error", () => fail(malformed(format)));
  inflater.end(bytes);
  return promise;
}

function tooLong(maxBytes: number): ConnectError {
  const message = `expected a message of at most ${maxBytes} bytes after it is decompressed`;
  return new ConnectError(message, Code.ResourceExhausted);
}

function malformed(format: Compression): ConnectError {
  return new ConnectError(`expected a message in the format ${format}`, Code.InvalidArgument);
}
