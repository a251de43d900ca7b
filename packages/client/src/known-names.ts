import { type FieldViolation, nameOf, SessiondError } from "./error.js";

/**
 * A table by the names of all fields of `T`, and of all alternatives if `T` is a union. It does not
 * compile when the type has got or lost a field.
 */
export type NamesOf<T> = { readonly [Name in NameOf<T>]: unknown };
type NameOf<T> = T extends unknown ? keyof T : never;

/** Where the fields of a value are, for messages. */
interface Place {
  /** The argument that the value is. */
  readonly argument: string;

  /** What precedes the names of its fields, such as `client.`. Default: nothing. */
  readonly prefix?: string;
}

const OPTIONS: Place = { argument: "options" };

/**
 * Returns `value`. Throws INVALID_ARGUMENT if it has a field that is not in `names`: to ignore a
 * misspelt `userId` would widen the call.
 */
export function known<T extends object>(value: T, names: NamesOf<T>, place = OPTIONS): T {
  const violations = unknownNames(value, names, place);
  if (violations.length > 0) throw refusal(violations);
  return value;
}

/** The violations of `known`, by the names that the caller wrote. */
export function unknownNames<T extends object>(
  value: T,
  names: NamesOf<T>,
  { argument, prefix = "" } = OPTIONS,
): FieldViolation[] {
  if (typeof value !== "object" || value === null) {
    return [{ field: argument, description: `expected an object, not ${nameOf(value)}` }];
  }
  return Object.keys(value)
    .filter((name) => !Object.hasOwn(names, name))
    .map((name) => ({
      field: prefix + name,
      description: `unknown; ${suggestion(name, Object.keys(names))}`,
    }));
}

/** A violation for each field that has a fault. The fault of a field without one is undefined. */
export function violationsOf(
  faults: Readonly<Record<string, string | undefined>>,
): FieldViolation[] {
  return Object.entries(faults).flatMap(([field, description]) =>
    description === undefined ? [] : [{ field, description }],
  );
}

/** The error for arguments that were refused, by the names that the caller wrote. */
export function refusal(fieldViolations: readonly FieldViolation[]): SessiondError {
  const messages = fieldViolations.map(({ field, description }) => `${field}: ${description}`);
  return new SessiondError("INVALID_ARGUMENT", messages.join("; "), { fieldViolations });
}

/** No name of ours is longer, so a longer one is no misspelling. */
const MAX_NAME_CHARS = 32;

function suggestion(name: string, candidates: readonly string[]): string {
  const [closest] = candidates
    .map((candidate) => ({ candidate, edits: edits(plain(name), plain(candidate)) }))
    .filter(({ edits }) => name.length <= MAX_NAME_CHARS && edits <= Math.ceil(name.length / 3))
    .sort((a, b) => a.edits - b.edits);
  return closest === undefined
    ? `expected one of ${candidates.join(", ")}`
    : `did you mean ${closest.candidate}?`;
}

/** The contract's `idle_timeout` is `idleTimeoutMs` here: neither case, `_` nor the unit matters. */
function plain(name: string): string {
  return name.toLowerCase().replace(/_|ms$/g, "");
}

/** How many letters to add, remove or replace (Levenshtein distance). */
function edits(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, j) => j);
  for (const [i, letter] of [...from].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...to].entries()) {
      const [replaced = 0, removed = 0] = row.slice(j, j + 2);
      const added = next[j] ?? 0;
      next.push(Math.min(replaced + Number(letter !== other), removed + 1, added + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
