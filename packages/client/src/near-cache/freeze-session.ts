import type { Session } from "../sessions/session.js";

/** What a string, an object and a field take in V8, roughly and rather too much. */
const STRING_BYTES = 20;
const OBJECT_BYTES = 40;
const FIELD_BYTES = 8;
const DATE_BYTES = 64;
/** The entry of a cache with its hash and its places in two indexes. */
const ENTRY_BYTES = 250;

/** Freezing an object does not reach the time of a Date, so these refuse to be set. */
class FrozenDate extends Date {
  static {
    const setters = Object.getOwnPropertyNames(Date.prototype).filter((name) =>
      name.startsWith("set"),
    );
    for (const name of setters)
      Object.defineProperty(FrozenDate.prototype, name, { value: refuse });
  }
}

function refuse(): never {
  throw new TypeError("the session is in the near cache and cannot be changed; copy it first");
}

/**
 * Freezes a session through and through, so that many may share it. Answers about how many bytes it
 * takes.
 */
export function freezeSession(session: Session<object>): number {
  let bytes = ENTRY_BYTES;
  const fields = session as unknown as Record<string, unknown>;
  for (const [name, value] of Object.entries(session)) {
    bytes += FIELD_BYTES;
    if (value instanceof Date) {
      fields[name] = Object.freeze(new FrozenDate(value));
      bytes += DATE_BYTES;
    } else {
      bytes += freeze(value);
    }
  }
  Object.freeze(session);
  return bytes;
}

/** Freezes JSON through and through. Answers about how many bytes it takes. */
function freeze(value: unknown): number {
  if (typeof value === "string") return STRING_BYTES + Buffer.byteLength(value);
  if (typeof value !== "object" || value === null) return 0;
  Object.freeze(value);
  let bytes = OBJECT_BYTES;
  for (const [name, child] of Object.entries(value)) {
    bytes += FIELD_BYTES + freeze(child);
    if (!Array.isArray(value)) bytes += STRING_BYTES + name.length;
  }
  return bytes;
}
