import {
  type BinaryReadOptions,
  type BinaryWriteOptions,
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

/** How messages are parsed and serialized. */
export type BinaryOptions = Partial<BinaryReadOptions & BinaryWriteOptions> | undefined;

/** @throws ConnectError (Internal) that names only the type, because the cause may quote a value */
export function serialize<Desc extends DescMessage>(
  desc: Desc,
  message: MessageInitShape<Desc>,
  options: BinaryOptions,
): Buffer {
  try {
    const bytes = toBinary(desc, create(desc, message), options);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  } catch (_cause) {
    throw new ConnectError(`cannot serialize ${desc.typeName}`, Code.Internal);
  }
}

/** @throws ConnectError (Internal) for bytes that are no such message */
export function parse<Desc extends DescMessage>(
  desc: Desc,
  bytes: Buffer,
  options: BinaryOptions,
): MessageShape<Desc> {
  try {
    // Fields of type bytes are views of the input, and must not be Buffers.
    return fromBinary(desc, new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length), options);
  } catch (cause) {
    const message = `cannot parse ${desc.typeName}`;
    throw new ConnectError(message, Code.Internal, undefined, undefined, cause);
  }
}
