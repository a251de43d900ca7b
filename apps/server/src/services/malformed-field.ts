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
import type { JsonKey } from "./exact-numbers.js";
import { requestTextDecoder } from "./request-json.js";

// Finds the field that keeps a message from being parsed. Protobuf's errors name at best the last
// part of its path. So we parse a refused message again, one field at a time. Valid messages cost
// nothing.

/** The field that keeps a message from being parsed. */
export interface MalformedField {
  /** The path from the request: `filter.create_time_from`. */
  readonly path: string;
  /** Whether the contract has this field. If not, the path ends in the caller's own text. */
  readonly isKnown: boolean;
}

/** Fields to try per message. The largest valid message has 1000 tokens. */
const MAX_FIELDS = 10_000;
const MAX_KEY_LENGTH = 64;
const MAX_PATH_LENGTH = 128;

/** The malformed field of a binary message. Undefined if no single field is: it ends too early. */
export function fieldOfBytes(desc: DescMessage, bytes: Uint8Array): MalformedField | undefined {
  try {
    const path = pathInBytes(desc, bytes);
    return path === undefined ? undefined : known(path);
  } catch {
    return undefined;
  }
}

/** The malformed field of a JSON message. Undefined if no single field is: the text is no JSON. */
export function fieldOfJson(desc: DescMessage, bytes: Uint8Array): MalformedField | undefined {
  try {
    const json: JsonValue = JSON.parse(requestTextDecoder.decode(bytes));
    return pathInJson(desc, isObject(json) ? json : {});
  } catch {
    return undefined;
  }
}

/** The path of a place in a JSON message: `data.visits[0]`. The contract's fields have its names. */
export function pathOfKeys(message: DescMessage, keys: readonly JsonKey[]): string {
  let desc: DescMessage | undefined = message;
  let path = "";
  for (const key of keys) {
    if (typeof key === "number") {
      path += `[${key}]`;
      continue;
    }
    const field: DescField | undefined = desc && fieldNamed(desc, key);
    path += `.${field?.name ?? key.slice(0, MAX_KEY_LENGTH)}`;
    desc = field && isOurs(field) ? field.message : undefined;
  }
  return path.slice(1, 1 + MAX_PATH_LENGTH).toWellFormed();
}

function pathInBytes(desc: DescMessage, bytes: Uint8Array): string | undefined {
  const reader = new BinaryReader(bytes);
  for (let i = 0; i < MAX_FIELDS && reader.pos < reader.len; i++) {
    const start = reader.pos;
    const [number, wireType] = reader.tag();
    reader.skip(wireType, number);
    const alone = bytes.subarray(start, reader.pos);
    if (failureOf(() => fromBinary(desc, alone)) === undefined) continue;
    const field = desc.fields.find((candidate) => candidate.number === number);
    if (field === undefined) return undefined;
    if (wireType !== WireType.LengthDelimited || !isOurs(field)) return field.name;
    const payload = new BinaryReader(alone);
    payload.tag();
    const child = pathInBytes(field.message, payload.bytes());
    return child === undefined ? field.name : `${field.name}.${child}`;
  }
  return undefined;
}

function pathInJson(desc: DescMessage, json: JsonObject): MalformedField | undefined {
  for (const [key, value] of Object.entries(json).slice(0, MAX_FIELDS)) {
    if (failureOf(() => fromJson(desc, { [key]: value })) === undefined) continue;
    const field = fieldNamed(desc, key);
    if (field === undefined) return { path: key.slice(0, MAX_KEY_LENGTH), isKnown: false };
    const child = isOurs(field) && isObject(value) ? pathInJson(field.message, value) : undefined;
    return child ? { ...child, path: `${field.name}.${child.path}` } : known(field.name);
  }
  // Each field is valid alone, so a field stands there twice: under both of its names.
  const cause = failureOf(() => fromJson(desc, json))?.cause;
  return isFieldError(cause) ? known(cause.field().name) : undefined;
}

/** JSON may spell a field in either way. */
function fieldNamed(desc: DescMessage, key: string): DescField | undefined {
  return desc.fields.find(({ name, jsonName }) => key === name || key === jsonName);
}

function known(path: string): MalformedField {
  return { path, isKnown: true };
}

/** Whether the field's message is from our contract. Protobuf's own are values to callers. */
function isOurs(field: DescField): field is DescField & { readonly message: DescMessage } {
  return field.fieldKind === "message" && !field.message.typeName.startsWith("google.protobuf.");
}

function failureOf(parse: () => void): Error | undefined {
  try {
    parse();
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

function isObject(json: JsonValue): json is JsonObject {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}
