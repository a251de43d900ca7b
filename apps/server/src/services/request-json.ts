import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { checkNumbers } from "./exact-numbers.js";
import { checkJsonElements } from "./message-elements.js";

// A caller that cuts a user agent to a number of UTF-16 units may leave half a surrogate pair. JSON
// can carry it as an escape, and Protobuf then refuses the whole request. A description must not.

/** The escape of any half, of a whole pair too. UTF-8 itself has no halves. */
const HALF_PAIR_ESCAPE = /\\u[dD][89a-fA-F]/;
const HALF_PAIRS = /\p{Surrogate}/gu;

/** A control character, so that the session keeps a space instead and the response says so. */
const STAND_IN = "\0";

const CLIENT = new Set(["ip", "user_agent", "userAgent", "device"]);
const SESSION = new Set(["display_name", "displayName"]);
const REQUEST = new Set([...SESSION, "reason"]);

// Refuse invalid UTF-8: replacing it would make one user id of many.
const UTF8 = new TextDecoder("utf-8", { fatal: true });

/** Reads the JSON of requests. Throws a TypeError for what is no UTF-8, and InexactNumber. */
export const requestTextDecoder = {
  decode(bytes: Uint8Array): string {
    checkJsonElements(bytes);
    const json = UTF8.decode(bytes);
    checkNumbers(json);
    return withWholeDescriptions(json);
  },
};

/** The JSON of a request, with no half of a surrogate pair in what merely describes a session. */
function withWholeDescriptions(text: string): string {
  if (!HALF_PAIR_ESCAPE.test(text)) return text;
  let request: JsonValue;
  try {
    request = JSON.parse(text);
  } catch {
    // Protobuf says better what is wrong.
    return text;
  }
  if (!isObject(request)) return text;
  const { client, session } = request;
  const changes = [
    repair(request, REQUEST),
    repair(client, CLIENT),
    repair(session, SESSION),
    isObject(session) && repair(session["client"], CLIENT),
  ];
  return changes.includes(true) ? JSON.stringify(request) : text;
}

/** Replaces the halves in texts of an object. Answers whether there were any. */
function repair(object: JsonValue | undefined, names: ReadonlySet<string>): boolean {
  if (!isObject(object)) return false;
  let isChanged = false;
  for (const [name, value] of Object.entries(object)) {
    if (!names.has(name) || typeof value !== "string" || value.isWellFormed()) continue;
    object[name] = value.replace(HALF_PAIRS, STAND_IN);
    isChanged = true;
  }
  return isChanged;
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
