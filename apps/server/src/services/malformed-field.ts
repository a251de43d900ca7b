import {
  type DescField,
  type DescMessage,
  fromBinary,
  fromJson,
  type JsonObject,
  type JsonValue,
} from "@bufbuild/protobuf";
import { isFieldError } from "@bufbuild/protobuf/reflect";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";

// Which field a message was refused for that cannot be parsed. Protobuf's errors do not always know,
// and none knows more than the last part of the path. So a message that was refused is looked
// through once more, one field at a time; one that is fine costs nothing.

/** The field that keeps a message from being parsed. */
export interface MalformedField {
  /** The path of the field from the request on: `filter.create_time_from`. */
  readonly path: string;
  /** Whether the message has such a field. If not, the path ends in what the caller wrote. */
  readonly isKnown: boolean;
}

/** How many fields of a message are looked at. The largest honest one has 1000 tokens. */
const MAX_FIELDS = 10_000;
const MAX_KEY_LENGTH = 64;

/**
 * The field for which bytes are no such message. Undefined where that is no one field's fault,
 * such as where the bytes end too early.
 */
export function fieldOfBytes(desc: DescMessage, bytes: Uint8Array): MalformedField | undefined {
  try {
    const path = pathInBytes(desc, bytes);
    return path === undefined ? undefined : known(path);
  } catch {
    return undefined;
  }
}

/**
 * The field for which JSON is refused. Undefined where that is no one field's fault, such as where
 * it is no JSON, or not UTF-8.
 */
export function fieldOfJson(desc: DescMessage, bytes: Uint8Array): MalformedField | undefined {
  try {
    return pathInJson(desc, asObject(JSON.parse(new TextDecoder().decode(bytes))));
  } catch {
    return undefined;
  }
}

function pathInBytes(desc: DescMessage, bytes: Uint8Array): string | undefined {
  const reader = new BinaryReader(bytes);
  for (let i = 0; i < MAX_FIELDS && reader.pos < reader.len; i++) {
    const start = reader.pos;
    const [number, wireType] = reader.tag();
    reader.skip(wireType, number);
    const alone = bytes.subarray(start, reader.pos);
    if (messageOf(() => fromBinary(desc, alone)) === undefined) continue;
    const field = desc.fields.find((candidate) => candidate.number === number);
    if (field === undefined) return undefined;
    if (wireType !== WireType.LengthDelimited || !isOurs(field)) return field.name;
    const child = pathInBytes(field.message, payloadOf(alone));
    return child === undefined ? field.name : `${field.name}.${child}`;
  }
  return undefined;
}

function payloadOf(field: Uint8Array): Uint8Array {
  const reader = new BinaryReader(field);
  reader.tag();
  return reader.bytes();
}

function pathInJson(desc: DescMessage, json: JsonObject): MalformedField | undefined {
  for (const [key, value] of Object.entries(json).slice(0, MAX_FIELDS)) {
    if (messageOf(() => fromJson(desc, { [key]: value })) === undefined) continue;
    const field = desc.fields.find(({ name, jsonName }) => key === name || key === jsonName);
    if (field === undefined) return { path: key.slice(0, MAX_KEY_LENGTH), isKnown: false };
    const child = isOurs(field) && isObject(value) ? pathInJson(field.message, value) : undefined;
    return child ? { ...child, path: `${field.name}.${child.path}` } : known(field.name);
  }
  // Each field is fine by itself: one was given twice, under both of its names.
  return fieldGivenTwice(desc, json);
}

function fieldGivenTwice(desc: DescMessage, json: JsonObject): MalformedField | undefined {
  try {
    fromJson(desc, json);
    return undefined;
  } catch (error) {
    const { cause } = error as Error;
    return isFieldError(cause) ? known(cause.field().name) : undefined;
  }
}

function known(path: string): MalformedField {
  return { path, isKnown: true };
}

/** A field whose message is one of the contract's. Those of protobuf are values to their callers. */
function isOurs(field: DescField): field is DescField & { readonly message: DescMessage } {
  return field.fieldKind === "message" && !field.message.typeName.startsWith("google.protobuf.");
}

/** What a function throws says; undefined where it throws nothing. */
function messageOf(parse: () => void): string | undefined {
  try {
    parse();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

function isObject(json: JsonValue): json is JsonObject {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

function asObject(json: JsonValue): JsonObject {
  return isObject(json) ? json : {};
}
