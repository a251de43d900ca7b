import type { JsonObject, JsonValue } from "@bufbuild/protobuf";

const FIRST_BYTES = 64 * 1024;
/** A kept buffer is not larger than this, so that one huge answer does not stay in memory. */
const KEPT_BYTES = 1024 * 1024;
/** A number of 64 bits in groups of 7. */
const MAX_VARINT_BYTES = 10;
/** A character of UTF-16 takes three bytes of UTF-8 at most. */
const MAX_CHARACTER_BYTES = 3;

/** The wire types of Protobuf that we write: https://protobuf.dev/programming-guides/encoding/ */
const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;

/**
 * Writes the fields of Protobuf messages, one after the other, into one buffer. A nested message takes
 * no copy: its length is put before it when it has ended.
 */
export class ProtobufWriter {
  #buffer = Buffer.allocUnsafeSlow(FIRST_BYTES);
  #at = 0;

  /** What was written since the last time, as a copy. */
  take(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.#at);
    bytes.set(this.#buffer.subarray(0, this.#at));
    this.clear();
    return bytes;
  }

  /** Forgets what was written, such as half of a message that could not be written. */
  clear(): void {
    this.#at = 0;
    if (this.#buffer.length > KEPT_BYTES) this.#buffer = Buffer.allocUnsafeSlow(FIRST_BYTES);
  }

  /** A text, also an empty one. The caller leaves that out of a field without presence. */
  text(field: number, text: string): void {
    this.#reserve(2 * MAX_VARINT_BYTES + MAX_CHARACTER_BYTES * text.length);
    this.#tag(field, LENGTH_DELIMITED);
    const start = this.#at++;
    this.#at += this.#buffer.write(text, this.#at, "utf8");
    this.#endAt(start);
  }

  /** An integer of 32 bits, or an enum's number. */
  int32(field: number, value: number): void {
    this.#reserve(2 * MAX_VARINT_BYTES);
    this.#tag(field, VARINT);
    if (value >= 0) this.#varint(value);
    else this.#varint64(BigInt(value));
  }

  /** Bytes, or a message that was written elsewhere. */
  bytes(field: number, bytes: Uint8Array): void {
    this.#reserve(2 * MAX_VARINT_BYTES + bytes.length);
    this.#tag(field, LENGTH_DELIMITED);
    this.#varint(bytes.length);
    this.#buffer.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  /** Begins a message. Answers what `end` needs. */
  begin(field: number): number {
    this.#reserve(2 * MAX_VARINT_BYTES);
    this.#tag(field, LENGTH_DELIMITED);
    return this.#at++;
  }

  /** Ends a message. */
  end(start: number): void {
    this.#reserve(MAX_VARINT_BYTES);
    this.#endAt(start);
  }

  /** A google.protobuf.Timestamp or Duration. */
  time(
    field: number,
    { seconds, nanos }: { readonly seconds: bigint; readonly nanos: number },
  ): void {
    const start = this.begin(field);
    if (seconds !== 0n) {
      this.#tag(1, VARINT);
      const small = Number(seconds);
      if (small >= 0 && Number.isSafeInteger(small)) this.#varint(small);
      else this.#varint64(seconds);
    }
    if (nanos !== 0) this.int32(2, nanos);
    this.end(start);
  }

  /** A google.protobuf.Struct. */
  struct(field: number, object: JsonObject): void {
    const start = this.begin(field);
    for (const name of Object.keys(object)) {
      const entry = this.begin(1);
      this.text(1, name);
      this.#value(2, object[name] as JsonValue);
      this.end(entry);
    }
    this.end(start);
  }

  /** A google.protobuf.Value. */
  #value(field: number, value: JsonValue): void {
    const start = this.begin(field);
    if (typeof value === "string") this.text(3, value);
    else if (typeof value === "number") this.#double(2, value);
    else if (typeof value === "boolean") this.int32(4, Number(value));
    else if (value === null) this.int32(1, 0);
    else if (Array.isArray(value)) {
      const list = this.begin(6);
      for (const item of value) this.#value(1, item);
      this.end(list);
    } else this.struct(5, value);
    this.end(start);
  }

  #double(field: number, value: number): void {
    this.#reserve(MAX_VARINT_BYTES + 8);
    this.#tag(field, FIXED64);
    this.#at = this.#buffer.writeDoubleLE(value, this.#at);
  }

  #tag(field: number, wireType: number): void {
    this.#varint((field << 3) | wireType);
  }

  #varint(value: number): void {
    let left = value;
    // Bits do for 32 of them only, and times have more.
    while (left > 0x7f) {
      this.#buffer[this.#at++] = (left % 0x80) | 0x80;
      left = Math.floor(left / 0x80);
    }
    this.#buffer[this.#at++] = left;
  }

  #varint64(value: bigint): void {
    let left = BigInt.asUintN(64, value);
    while (left > 0x7fn) {
      this.#buffer[this.#at++] = Number(left & 0x7fn) | 0x80;
      left >>= 7n;
    }
    this.#buffer[this.#at++] = Number(left);
  }

  /** Puts the length of what follows `start` there. Most are short, so one byte is kept free for it. */
  #endAt(start: number): void {
    const length = this.#at - start - 1;
    if (length <= 0x7f) {
      this.#buffer[start] = length;
      return;
    }
    let extra = 1;
    for (let left = length >>> 14; left > 0; left >>>= 7) extra++;
    this.#buffer.copyWithin(start + 1 + extra, start + 1, this.#at);
    this.#at = start;
    this.#varint(length);
    this.#at += length;
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(2 * (this.#at + bytes));
    larger.set(this.#buffer.subarray(0, this.#at));
    this.#buffer = larger;
  }
}
