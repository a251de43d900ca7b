import type { JsonObject } from "@bufbuild/protobuf";
import { invalidArgument, nameOf } from "../error.js";
import { checkText } from "../rpc/fields.js";

/**
 * How deeply data may be nested, as the contract says of CreateSessionRequest.data.
 * Looked at here, too, because data that contains itself has no end.
 */
const MAX_DEPTH = 32;

/**
 * Throws INVALID_ARGUMENT, naming the place, unless `data` is a JSON object. One
 * that is nested too deeply is refused in the server's words, by the field alone:
 * its place would be as long as it is deep.
 *
 * Checked before sending, because protobuf would send something else in silence:
 * `undefined` and NaN as null, a Date as `{}`, half of a surrogate pair as U+FFFD.
 */
export function checkJsonObject(data: unknown, field: string): asserts data is JsonObject {
  if (!isPlainObject(data)) {
    throw invalidArgument(field, "expected a JSON object");
  }
  checkJsonValue(data, { field, place: field, depth: 1 });
}

/** Where a value is within the data of a field. */
interface Position {
  readonly field: string;
  readonly place: string;
  /** Of an object or array here: 1 for the data itself. */
  readonly depth: number;
}

/** Throws INVALID_ARGUMENT, naming the place, unless `value` can be sent as JSON. */
function checkJsonValue(value: unknown, { field, place, depth }: Position): void {
  if (Array.isArray(value)) {
    checkDepth(field, depth);
    // Array.from, so that holes are seen.
    Array.from(value).forEach((item, index) => {
      checkJsonValue(item, { field, place: `${place}[${index}]`, depth: depth + 1 });
    });
  } else if (isPlainObject(value)) {
    checkDepth(field, depth);
    for (const [key, child] of Object.entries(value)) {
      checkText(key, `a key of ${place}`);
      checkJsonValue(child, { field, place: `${place}.${key}`, depth: depth + 1 });
    }
  } else if (typeof value === "string") {
    checkText(value, place);
  } else if (value !== null && typeof value !== "boolean" && !Number.isFinite(value)) {
    throw invalidArgument(place, `expected JSON, not ${nameOf(value)}`);
  }
}

function checkDepth(field: string, depth: number): void {
  if (depth > MAX_DEPTH) {
    throw invalidArgument(field, `expected at most ${MAX_DEPTH} levels of nesting`);
  }
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) {
    return false;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}
