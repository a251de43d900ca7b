import {
  type BinaryReadOptions,
  type BinaryWriteOptions,
  create,
  type DescMessage,
  fromBinary,
  type Message,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

/** Parses messages of some types itself. Undefined for all others. */
export type ParseMessage = (
  desc: DescMessage,
  bytes: Uint8Array<ArrayBuffer>,
) => Message | undefined;

/** How messages are parsed and serialized. */
export type BinaryOptions = Partial<BinaryReadOptions & BinaryWriteOptions> | undefined;

/** How answers are parsed. */
export interface Parsing {
  readonly binaryOptions: BinaryOptions;
  readonly parse: ParseMessage | undefined;
}

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
  { buffer, byteOffset, length }: Buffer,
  { binaryOptions, parse }: Parsing,
): MessageShape<Desc> {
  try {
    // Fields of type bytes are views of the input, and must not be Buffers.
    const bytes = new Uint8Array(buffer as ArrayBuffer, byteOffset, length);
    const parsed = parse?.(desc, bytes) as MessageShape<Desc> | undefined;
    return parsed ?? fromBinary(desc, bytes, binaryOptions);
  } catch (cause) {
    const message = `cannot parse ${desc.typeName}`;
    throw new ConnectError(message, Code.Internal, undefined, undefined, cause);
  }
}
