import type { DescField, DescMessage } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";

/** Smaller requests cannot hold so many. Most are, and cost nothing here. */
const SMALL_BYTES = 64 * 1024;
/** More than data of 16 KiB, or a batch of 1000, can have. */
const MAX_ELEMENTS = 20_000;
/** As deep as Protobuf itself reads. */
const MAX_DEPTH = 100;
const COMMA = 44;

/**
 * Refuses a message with too many fields and list elements, before it is parsed: a million of them fit
 * into 4 MiB, and would keep all other calls waiting for half a second. Throws a ConnectError
 * (InvalidArgument). Bytes that are no message pass: the parser says better what is wrong.
 */
export function checkElements(desc: DescMessage, bytes: Uint8Array): void {
  if (bytes.length <= SMALL_BYTES) return;
  try {
    new ElementCount(new BinaryReader(bytes)).readMessage(desc, bytes.length, 0);
  } catch (error) {
    if (error instanceof ConnectError) throw error;
  }
}

/** The same for JSON, where a comma stands between two elements. */
export function checkJsonElements(bytes: Uint8Array): void {
  if (bytes.length <= SMALL_BYTES) return;
  let count = 0;
  for (let at = bytes.indexOf(COMMA); at !== -1; at = bytes.indexOf(COMMA, at + 1)) {
    if (++count > MAX_ELEMENTS) throw tooMany();
  }
}

function tooMany(): ConnectError {
  const message = `expected at most ${MAX_ELEMENTS} fields and list elements in a request`;
  return new ConnectError(message, Code.InvalidArgument);
}

const fieldsByNumber = new WeakMap<DescMessage, ReadonlyMap<number, DescField>>();

function fieldOf(desc: DescMessage, number: number): DescField | undefined {
  const fields = fieldsByNumber.get(desc) ?? new Map(desc.fields.map((one) => [one.number, one]));
  fieldsByNumber.set(desc, fields);
  return fields.get(number);
}

/** Walks through a message without making anything of it. */
class ElementCount {
  readonly #reader: BinaryReader;
  #count = 0;

  constructor(reader: BinaryReader) {
    this.#reader = reader;
  }

  readMessage(desc: DescMessage, end: number, depth: number): void {
    this.#readFields(end, depth, (number) => {
      const field = fieldOf(desc, number);
      if (field?.fieldKind !== "map") return field?.message;
      return field.message === undefined ? undefined : { entryValue: field.message };
    });
  }

  #readFields(
    end: number,
    depth: number,
    messageOf: (number: number) => DescMessage | { readonly entryValue: DescMessage } | undefined,
  ): void {
    const reader = this.#reader;
    while (reader.pos < end) {
      const [number, type] = reader.tag();
      if (++this.#count > MAX_ELEMENTS || depth > MAX_DEPTH) throw tooMany();
      const message = type === WireType.LengthDelimited ? messageOf(number) : undefined;
      if (message === undefined) {
        reader.skip(type, number);
        continue;
      }
      const messageEnd = reader.uint32() + reader.pos;
      if ("typeName" in message) {
        this.readMessage(message, messageEnd, depth + 1);
      } else {
        // An entry of a map: its value is field 2.
        const { entryValue } = message;
        this.#readFields(messageEnd, depth + 1, (part) => (part === 2 ? entryValue : undefined));
      }
    }
  }
}
