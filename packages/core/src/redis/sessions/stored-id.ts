import { isGeneratedId } from "../../sessions/session-id.js";

/** No chosen id has this character, so no chosen id looks like the stored form of a generated id. */
const GENERATED_MARK = "!";
const MARK_AT = 2;

/**
 * A session's id in keys, indexes and events. A generated id is its partition's two digits, `!`, and
 * its other 31 bytes, which is half as long as in hex. A chosen id is itself.
 *
 * Generated ids keep their order. So do chosen ids beside them, unless one begins with the digits of
 * its partition: then it comes after the generated ids of that partition.
 */
export function toStoredId(id: string): Buffer {
  if (!isGeneratedId(id)) return Buffer.from(id, "latin1");
  const stored = Buffer.allocUnsafe(MARK_AT + 32);
  // The partition's byte is overwritten with the mark.
  stored.write(id, MARK_AT, "hex");
  stored.write(id.slice(0, MARK_AT) + GENERATED_MARK, "latin1");
  return stored;
}

/** The id of which `toStoredId` made these bytes. */
export function fromStoredId(stored: Buffer): string {
  if (stored[MARK_AT] !== GENERATED_MARK.charCodeAt(0)) return stored.toString("latin1");
  return stored.toString("latin1", 0, MARK_AT) + stored.toString("hex", MARK_AT + 1);
}
