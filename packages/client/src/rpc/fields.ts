import {
  type Duration,
  durationFromMs,
  type Timestamp,
  timestampDate,
} from "@bufbuild/protobuf/wkt";
import { invalidArgument, malformedAnswer, nameOf } from "../error.js";

/** Throws INVALID_ARGUMENT unless `text` is a string that UTF-8 can carry. It is not repeated. */
export function checkText(text: unknown, field: string): asserts text is string {
  if (typeof text !== "string") {
    throw invalidArgument(field, `expected a string, not ${nameOf(text)}`);
  }
  if (!text.isWellFormed()) {
    throw invalidArgument(field, "expected well-formed Unicode");
  }
}

/** `value`, if it is a string that can be sent. */
export function text(value: string, field: string): string {
  checkText(value, field);
  return value;
}

export function texts(values: readonly string[], field: string): string[] {
  if (!Array.isArray(values)) {
    throw invalidArgument(field, "expected an array of strings");
  }
  return values.map((value, index) => text(value, `${field}[${index}]`));
}

/**
 * The value of an option that narrows what a call reaches, or "" if it is left
 * out, which is how the wire says so.
 *
 * An empty or undefined one is refused, for it would widen the call in silence:
 * a user id that is missing by mistake would list the sessions of all users, and
 * a missing etag would make an update unconditional.
 */
export function narrowing<K extends string>(
  options: { readonly [key in K]?: string },
  key: K,
  field: string,
): string {
  if (!Object.hasOwn(options, key)) {
    return "";
  }
  const value = options[key];
  if (value === undefined || value === "") {
    throw invalidArgument(field, `expected a value; leave \`${key}\` out to do without`);
  }
  return text(value, field);
}

/** Milliseconds are the precision of the server, so fractions of one are rounded. */
export function duration(ms: number, field: string): Duration {
  const rounded = Math.round(ms);
  if (!Number.isSafeInteger(rounded)) {
    throw invalidArgument(field, "expected a number of milliseconds");
  }
  return durationFromMs(rounded);
}

export function int32(value: number, field: string): number {
  if (!Number.isInteger(value) || Math.abs(value) > 0x7fff_ffff) {
    throw invalidArgument(field, "expected an integer");
  }
  return value;
}

/** A time that every answer has. */
export function dateFrom(timestamp: Timestamp | undefined, name: string): Date {
  return timestampDate(present(timestamp, name));
}

/** A field that every answer has. */
export function present<T>(value: T | undefined, name: string): T {
  if (value === undefined) {
    throw malformedAnswer(`${name} is missing`);
  }
  return value;
}
