import fc from "fast-check";
import { expect, test } from "vitest";
import { Keyring } from "./keyring.js";
import { sealContent, unsealContent } from "./session-record.js";
import type { StoredSession } from "./session-store.js";

const keyring = Keyring.parse(Keyring.generateKey());
const SESSION = { id: "one", userId: "ada" } as StoredSession;

test("any text and any number of roles come back from a sealed record as they were", () => {
  const text = fc.string({ unit: "grapheme-composite" });
  const odd = fc.constantFrom("", "\0", "\u00ff", "\ufffd", "\u{10ffff}");
  const texts = fc.oneof(text, odd);
  const contents = fc.record({
    displayName: texts,
    roles: fc.array(texts, { maxLength: 64 }),
    client: fc.record({ ip: texts, userAgent: texts, device: texts }),
    data: fc.dictionary(texts, fc.oneof(texts, fc.integer(), fc.constant(null)), {
      noNullPrototype: true,
    }),
  });
  fc.assert(
    fc.property(contents, (content) => {
      const record = sealContent(keyring, SESSION, content);
      expect(unsealContent(keyring, { ...SESSION, record })).toEqual(content);
    }),
  );
});
