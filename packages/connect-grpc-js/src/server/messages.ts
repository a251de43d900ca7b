import {
  type DescMessage,
  fromBinary,
  type Message,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Route } from "./route.js";
import { ENVELOPE_BYTES } from "./unary-request.js";

/**
 * Parses a message of a request.
 *
 * grpc-js does not parse, because it would answer INTERNAL before any interceptor sees the call.
 * Malformed bytes are the client's mistake, so the code is INVALID_ARGUMENT, which alarms nobody.
 *
 * @throws ConnectError (InvalidArgument), and what `checkRequest` throws
 */
export function parseMessage<Desc extends DescMessage>(
  desc: Desc,
  buffer: Uint8Array,
  route: Pick<Route, "binaryOptions" | "describeMalformed" | "checkRequest">,
): MessageShape<Desc> {
  // Fields of type bytes are views of the input. They must not be Buffers, because a Buffer has
  // another slice() and toString() than a Uint8Array.
  const bytes = new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length);
  const { binaryOptions, describeMalformed, checkRequest } = route;
  checkRequest?.(desc, bytes);
  try {
    return fromBinary(desc, bytes, binaryOptions);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    const message = `cannot parse ${desc.typeName}: ${why}`;
    const error = new ConnectError(message, Code.InvalidArgument, undefined, undefined, cause);
    throw describeMalformed?.(error, desc, bytes) ?? error;
  }
}

/** How to serialize the responses of a route. */
type Serialization = Pick<Route, "serialize" | "binaryOptions">;

/**
 * Serializes the only message of a response in its envelope: a byte of flags and four bytes of length
 * stand before it.
 *
 * @throws as `serializeMessage`
 */
export function serializeEnvelope(desc: DescMessage, message: Message, how: Serialization): Buffer {
  const bytes = serializeMessage(desc, message, how);
  const envelope = Buffer.allocUnsafe(ENVELOPE_BYTES + bytes.length);
  envelope[0] = 0;
  envelope.writeUInt32BE(bytes.length, 1);
  envelope.set(bytes, ENVELOPE_BYTES);
  return envelope;
}

/** The bytes of frozen messages, which nobody can change. */
const frozenBytes = new WeakMap<Message, Buffer>();

/**
 * Serializes a message of a stream. A frozen message is serialized once, however many streams send
 * it.
 *
 * @throws as `serializeMessage`
 */
export function serializeStreamed(desc: DescMessage, message: Message, how: Serialization): Buffer {
  if (!Object.isFrozen(message)) return serializeMessage(desc, message, how);
  const known = frozenBytes.get(message);
  if (known !== undefined) return known;
  const bytes = serializeMessage(desc, message, how);
  frozenBytes.set(message, bytes);
  return bytes;
}

/**
 * Serializes a message of a response.
 *
 * @throws ConnectError (Internal) that names only the type, because the cause may quote a value.
 */
export function serializeMessage<Desc extends DescMessage>(
  desc: Desc,
  message: MessageShape<Desc>,
  { serialize, binaryOptions }: Serialization,
): Buffer {
  try {
    const bytes = serialize?.(desc, message) ?? toBinary(desc, message, binaryOptions);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  } catch (cause) {
    const message = `cannot serialize ${desc.typeName}`;
    throw new ConnectError(message, Code.Internal, undefined, undefined, cause);
  }
}
