import fc from "fast-check";
import { expect, test } from "vitest";
import { keptClient, keptText, type Notice } from "./descriptions.js";
import type { SessionClient } from "./session.js";

const SMILE = "\u{1f600}";

/** A text as it is kept within ten bytes, and the notices of it. */
function kept(text: string): readonly [kept: string, ...notices: string[]] {
  const notices: Notice[] = [];
  const result = keptText("field", text, 10, notices);
  return [result, ...notices.map(({ field, description }) => `${field}: ${description}`)];
}

const CUT = "field: cut to 10 bytes";
const REPLACED = "field: unprintable characters were replaced by spaces";

test("a description within its limit is kept as it is, in whatever script", () => {
  for (const text of ["", "x".repeat(10), "\u00e9".repeat(5), `${SMILE}${SMILE}xx`, "\u202e"]) {
    expect(kept(text)).toEqual([text]);
  }
});

test("a description is cut at its limit, and before a character that does not fit", () => {
  expect(kept("x".repeat(5_000_000))).toEqual(["x".repeat(10), CUT]);
  expect(kept(`${"x".repeat(9)}\u00e9`)).toEqual(["x".repeat(9), CUT]);
  for (const tooLong of [7, 8, 9]) {
    expect(kept(`${"x".repeat(tooLong)}${SMILE}`)).toEqual(["x".repeat(tooLong), CUT]);
  }
});

test("control characters and halves of surrogate pairs in a description are replaced", () => {
  expect(kept("a\nb\0\u0085\x7f")).toEqual(["a b   ", REPLACED]);
  expect(kept("a\ud800b\udc00")).toEqual(["a b ", REPLACED]);
  expect(kept("\udc00\n".repeat(3))).toEqual(["    ", CUT, REPLACED]);
});

test("whatever a description is, what is kept of it fits, and is kept unchanged again", () => {
  const unit = fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code));
  const text = fc.oneof(fc.string({ unit: "binary" }), fc.string({ unit }));
  fc.assert(
    fc.property(text, fc.nat({ max: 40 }), (text, maxBytes) => {
      const notices: Notice[] = [];
      const result = keptText("field", text, maxBytes, notices);
      const bytes = Buffer.byteLength(result);
      expect(result.isWellFormed()).toBe(true);
      expect(bytes).toBeLessThanOrEqual(maxBytes);
      expect(notices.length === 0).toBe(result === text);
      expect(keptText("field", result, maxBytes)).toBe(result);
      // One character more would not have fitted.
      const more = [...text].slice(0, [...result].length + 1).join("");
      const isCut = notices.some(({ description }) => description.startsWith("cut"));
      expect(Buffer.byteLength(more) > maxBytes).toBe(isCut);
    }),
    { numRuns: 100 },
  );
});

test.each<[Partial<SessionClient>, Partial<SessionClient>, string[]]>([
  [{}, {}, []],
  [{ ip: "", userAgent: "", device: "" }, { ip: "", userAgent: "", device: "" }, []],
  [{ ip: "2001:DB8:0::1" }, { ip: "2001:db8::1" }, []],
  [{ ip: "::ffff:203.0.113.7" }, { ip: "203.0.113.7" }, []],
  [{ ip: "203.0.113.7:4711", device: "d" }, { ip: "", device: "d" }, ["client.ip"]],
  [{ ip: "203.0.113.7, 10.0.0.1" }, { ip: "" }, ["client.ip"]],
  [{ userAgent: "x".repeat(1024) }, { userAgent: "x".repeat(1024) }, []],
  [{ userAgent: "x".repeat(1025) }, { userAgent: "x".repeat(1024) }, ["client.user_agent"]],
  [{ device: "x".repeat(257) }, { device: "x".repeat(256) }, ["client.device"]],
])("a client is kept, and every change has a notice with its field (case %#)", (...all) => {
  const [client, expected, fields] = all;
  const notices: Notice[] = [];
  expect(keptClient("client", client, notices)).toEqual(expected);
  expect(notices.map(({ field }) => field)).toEqual(fields);
});
