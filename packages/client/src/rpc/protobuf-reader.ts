import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";

/** The wire types of Protobuf that we read: https://protobuf.dev/programming-guides/encoding/ */
const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;

/** Deeper data is read by the library, which has a limit of its own. */
const MAX_DEPTH = 32;
const REPLACEMENT = "\ufffd";

/** Thrown at bytes that only a whole implementation of Protobuf reads right. */
export const UNUSUAL = Symbol("unusual bytes");

/**
 * Reads the fields of Protobuf messages as a server of this version writes them. Throws `UNUSUAL` for
 * everything else: what is malformed, what is there twice, and what a later version may add.
 */
export class ProtobufReader {
  readonly #bytes: Buffer;
  #at = 0;
  #wireType = 0;

  constructor({ buffer, byteOffset, length }: Uint8Array<ArrayBuffer>) {
    this.#bytes = Buffer.from(buffer, byteOffset, length);
  }

  /** The end of the whole message. */
  get length(): number {
    return this.#bytes.length;
  }

  /** Whether there are more fields in a message that ends there. Throws if it ends within one. */
  isBefore(end: number): boolean {
    if (this.#at > end) throw UNUSUAL;
    return this.#at < end;
  }

  /** The number of the next field. */
  field(): number {
    const tag = this.#varint();
    this.#wireType = tag & 7;
    return tag >>> 3;
  }

  /** Begins a message. Answers where it ends. `previous` is what the field had before: nothing. */
  begin(previous?: unknown): number {
    this.#expect(LENGTH_DELIMITED);
    if (previous !== undefined) throw UNUSUAL;
    const length = this.#varint();
    const end = this.#at + length;
    if (end > this.#bytes.length) throw UNUSUAL;
    return end;
  }

  text(): string {
    const end = this.begin();
    const text = this.#bytes.toString("utf8", this.#at, end);
    // It stands for bytes that are not UTF-8, or for itself.
    if (text.includes(REPLACEMENT)) throw UNUSUAL;
    this.#at = end;
    return text;
  }

  /** Bytes, or a message that is read elsewhere. They are a view of the input. */
  bytes(): Uint8Array<ArrayBuffer> {
    const end = this.begin();
    const { buffer, byteOffset } = this.#bytes as Buffer<ArrayBuffer>;
    const bytes = new Uint8Array(buffer, byteOffset + this.#at, end - this.#at);
    this.#at = end;
    return bytes;
  }

  /** A number of 32 bits that is not negative, or an enum's number. */
  int32(): number {
    this.#expect(VARINT);
    const value = this.#varint();
    if (value > 0x7fff_ffff) throw UNUSUAL;
    return value;
  }

  timestamp(previous: Timestamp | undefined): Timestamp {
    const time: Timestamp = { $typeName: "google.protobuf.Timestamp", seconds: 0n, nanos: 0 };
    this.#time(time, previous);
    return time;
  }

  duration(previous: Duration | undefined): Duration {
    const time: Duration = { $typeName: "google.protobuf.Duration", seconds: 0n, nanos: 0 };
    this.#time(time, previous);
    return time;
  }

  /** A google.protobuf.Struct. */
  struct(previous: JsonObject | undefined, depth = 0): JsonObject {
    const end = this.begin(previous);
    if (depth > MAX_DEPTH) throw UNUSUAL;
    const object: JsonObject = {};
    while (this.isBefore(end)) {
      this.#expectField(1);
      const entryEnd = this.begin();
      this.#expectField(1);
      const name = this.text();
      if (name === "__proto__") throw UNUSUAL;
      this.#expectField(2);
      object[name] = this.#value(depth);
      if (this.#at !== entryEnd) throw UNUSUAL;
    }
    return object;
  }

  /** A google.protobuf.Value. */
  #value(depth: number): JsonValue {
    const end = this.begin();
    if (!this.isBefore(end)) return null;
    const value = this.#kind(this.field(), depth);
    if (this.#at !== end) throw UNUSUAL;
    return value;
  }

  #kind(field: number, depth: number): JsonValue {
    switch (field) {
      case 1:
        this.int32();
        return null;
      case 2:
        return this.#double();
      case 3:
        return this.text();
      case 4:
        return this.int32() !== 0;
      case 5:
        return this.struct(undefined, depth + 1);
      case 6:
        return this.#list(depth + 1);
      default:
        throw UNUSUAL;
    }
  }

  #list(depth: number): JsonValue[] {
    const end = this.begin();
    if (depth > MAX_DEPTH) throw UNUSUAL;
    const values: JsonValue[] = [];
    while (this.isBefore(end)) {
      this.#expectField(1);
      values.push(this.#value(depth));
    }
    return values;
  }

  #time(time: { seconds: bigint; nanos: number }, previous: unknown): void {
    const end = this.begin(previous);
    while (this.isBefore(end)) {
      const field = this.field();
      this.#expect(VARINT);
      const value = this.#varint();
      if (field === 1) time.seconds = BigInt(value);
      else if (field === 2 && value <= 0x7fff_ffff) time.nanos = value;
      else throw UNUSUAL;
    }
  }

  #double(): number {
    this.#expect(FIXED64);
    const start = this.#at;
    this.#at += 8;
    if (this.#at > this.#bytes.length) throw UNUSUAL;
    return this.#bytes.readDoubleLE(start);
  }

  #expectField(number: number): void {
    if (this.field() !== number) throw UNUSUAL;
  }

  #expect(wireType: number): void {
    if (this.#wireType !== wireType) throw UNUSUAL;
  }

  /** A number that is exact. A negative one, which takes ten bytes, is unusual. */
  #varint(): number {
    const first = this.#byte();
    if (first < 0x80) return first;
    let value = first & 0x7f;
    // Bits do for 32 of them only, and times have more.
    for (let factor = 0x80; factor <= 0x80 ** 6; factor *= 0x80) {
      const byte = this.#byte();
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
    throw UNUSUAL;
  }

  #byte(): number {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw UNUSUAL;
    return byte;
  }
}
