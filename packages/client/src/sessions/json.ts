import type { JsonObject } from "@bufbuild/protobuf";
import { invalidArgument, nameOf } from "../error.js";
import { text } from "../rpc/fields.js";

/**
 * How deeply data may be nested: the limit of CreateSessionRequest.data in the contract. We check
 * it here too, because data that contains itself has no end.
 */
const MAX_DEPTH = 32;

/**
 * Returns `data` if it is a JSON object. Throws INVALID_ARGUMENT with the path of the fault. For
 * data that is nested too deeply it names only the field, as the server does: the path would be
 * as long as the data is deep.
 *
 * protobuf would change other values in silence: `undefined` and NaN become null, a Date becomes
 * `{}`, half of a surrogate pair becomes U+FFFD. JavaScript has rounded an integer beyond 2^53
 * already: somebody's id would become another id.
 */
export function jsonObject(data: unknown, field: string): JsonObject {
  if (!isPlainObject(data)) throw invalidArgument(field, "expected a JSON object");
  checkJsonValue(data, { field, path: field, depth: 1 });
  return data as JsonObject;
}

/** Where a value is in the data of a field. */
interface Position {
  readonly field: string;
  readonly path: string;
  /** 1 for the data itself. */
  readonly depth: number;
}

function checkJsonValue(value: unknown, { field, path, depth }: Position): void {
  if (Array.isArray(value)) {
    checkDepth(field, depth);
    // Array.from makes the holes of a sparse array visible.
    Array.from(value).forEach((item, index) => {
      checkJsonValue(item, { field, path: `${path}[${index}]`, depth: depth + 1 });
    });
  } else if (isPlainObject(value)) {
    checkDepth(field, depth);
    for (const [key, child] of Object.entries(value)) {
      if (!key.isWellFormed()) throw invalidArgument(path, "expected keys of well-formed Unicode");
      checkJsonValue(child, { field, path: `${path}.${key}`, depth: depth + 1 });
    }
  } else if (typeof value === "string") {
    text(value, path);
  } else if (value !== null && typeof value !== "boolean" && !isExactNumber(value)) {
    throw invalidArgument(path, `expected JSON, not ${notJson(value)}`);
  }
}

function notJson(value: unknown): string {
  if (typeof value !== "number" && typeof value !== "bigint") return nameOf(value);
  const kind = Number.isFinite(value) ? "an integer beyond 2^53" : nameOf(value);
  return `${kind}; send it as a string`;
}

/** Whether a number is surely what its author wrote. */
function isExactNumber(value: unknown): boolean {
  return Number.isFinite(value) && (!Number.isInteger(value) || Number.isSafeInteger(value));
}

function checkDepth(field: string, depth: number): void {
  if (depth > MAX_DEPTH) {
    throw invalidArgument(field, `expected at most ${MAX_DEPTH} levels of nesting`);
  }
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}
