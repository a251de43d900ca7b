import {
  type Duration,
  durationFromMs,
  type Timestamp,
  timestampDate,
  timestampFromDate,
} from "@bufbuild/protobuf/wkt";
import { invalidArgument, malformedAnswer, nameOf } from "../error.js";

/** Throws INVALID_ARGUMENT unless `value` is a string that UTF-8 can carry. Never repeats it. */
export function text(value: string, field: string): string {
  if (typeof value !== "string") {
    throw invalidArgument(field, `expected a string, not ${nameOf(value)}`);
  }
  if (!value.isWellFormed()) throw invalidArgument(field, "expected well-formed Unicode");
  return value;
}

export function texts(values: readonly string[], field: string): string[] {
  if (!Array.isArray(values)) throw invalidArgument(field, "expected an array of strings");
  return values.map((value, index) => text(value, `${field}[${index}]`));
}

/**
 * The value of an option that narrows a call, or "" (the contract's "none") if it is left out.
 *
 * Refuses an empty or undefined value, because it would widen the call in silence: a user id
 * that is missing by mistake would list the sessions of all users, and a missing etag would make
 * an update unconditional.
 */
export function narrowing<K extends string>(
  options: { readonly [key in K]?: string },
  key: K,
  field: string,
): string {
  if (!Object.hasOwn(options, key)) return "";
  const value = options[key];
  if (value === undefined || value === "") {
    throw invalidArgument(field, `expected a value; leave \`${key}\` out to do without`);
  }
  return text(value, field);
}

export function int32(value: number, field: string): number {
  if (!Number.isInteger(value) || Math.abs(value) > 0x7fff_ffff) {
    throw invalidArgument(field, "expected an integer");
  }
  return value;
}

/** Rounds fractions of a millisecond, which the server does not know. */
export function duration(ms: number, field: string): Duration {
  const rounded = Math.round(ms);
  if (!Number.isSafeInteger(rounded)) {
    throw invalidArgument(field, "expected a number of milliseconds");
  }
  return durationFromMs(rounded);
}

export function timestamp(date: Date, field: string): Timestamp {
  if (!(date instanceof Date) || Number.isNaN(date.getTime())) {
    throw invalidArgument(field, "expected a valid Date");
  }
  return timestampFromDate(date);
}

/** A field that every answer has. Throws INTERNAL if it is missing. */
export function present<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw malformedAnswer(`${name} is missing`);
  return value;
}

/** A time that every answer has. Throws INTERNAL if it is missing. */
export function dateFrom(timestamp: Timestamp | undefined, name: string): Date {
  return timestampDate(present(timestamp, name));
}
