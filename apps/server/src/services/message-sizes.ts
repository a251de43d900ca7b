import type { JsonValue, Session } from "@sessiond/core";

/** The facts of a session, its id and its etag, in Protobuf or JSON. */
const FACTS_BYTES = 700;
/** The fields and lengths around a value in google.protobuf.Value, or the punctuation in JSON. */
const VALUE_BYTES = 12;

/** At least the bytes that a session takes in an answer, in Protobuf and in JSON. */
export function sizeOfSession({ userId, displayName, roles, client, data }: Session): number {
  const texts = [userId, displayName, ...roles, client.ip, client.userAgent, client.device];
  return texts.reduce((sum, text) => sum + sizeOfText(text), FACTS_BYTES) + sizeOfValue(data);
}

function sizeOfValue(value: JsonValue): number {
  if (typeof value === "string") return VALUE_BYTES + sizeOfText(value);
  if (typeof value !== "object" || value === null) return VALUE_BYTES;
  if (Array.isArray(value)) {
    return value.reduce<number>((sum, item) => sum + sizeOfValue(item), VALUE_BYTES);
  }
  return Object.entries(value).reduce(
    (sum, [name, item]) => sum + VALUE_BYTES + sizeOfText(name) + sizeOfValue(item),
    VALUE_BYTES,
  );
}

/** A character of UTF-16 takes three bytes of UTF-8 at most; JSON escapes are as long as what was sent. */
function sizeOfText(text: string): number {
  return 4 + Buffer.byteLength(text);
}
