import { stripVTControlCharacters } from "node:util";
import fc from "fast-check";
import { expect, test } from "vitest";
import { jsonLine, printable, widthOf } from "./printable.js";
import { type Column, Table } from "./table.js";

/** Letters, signs and faces of all kinds, and what moves cursors and turns directions. */
const anyText = fc.oneof(
  fc.string({ unit: "grapheme" }),
  fc.string({ unit: "binary" }),
  fc.string({
    unit: fc.constantFrom("\x1b", "[2J", "\r", "\n", "\x9b", "\u202e", "日", "👩‍👩‍👧‍👦", "\u0301"),
  }),
);
const DANGEROUS = /[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]/u;

test("no text of others moves the cursor or turns the direction of writing", () => {
  expect(printable("a\x1b[2Jb\u202ec")).toBe("a\\u{1b}[2Jb\\u{202e}c");
  fc.assert(fc.property(anyText, (text) => !DANGEROUS.test(printable(text))));
});

test("a heap of accents is not shown, since it covers other lines", () => {
  expect(printable(`a${"\u0301".repeat(100)}b`)).toBe("\ufffdb");
});

test("a line of JSON is safe for a terminal, and means what it meant", () => {
  fc.assert(
    fc.property(anyText, (text) => {
      const line = jsonLine({ text });
      expect(line.slice(0, -1)).not.toMatch(DANGEROUS);
      expect(JSON.parse(line)).toEqual({ text });
    }),
  );
});

const columns: readonly Column<string>[] = [
  { title: "ID", text: () => "0123456789abcdef", shortWidth: 6 },
  { title: "NAME", text: (name) => name, minWidth: 5, style: () => "green" },
  { title: "AGE", text: () => "59m ago" },
];

test("no row is wider than the terminal, whatever it contains", () => {
  const rows = fc.array(fc.array(anyText, { minLength: 1 }), { minLength: 1 });
  fc.assert(
    fc.property(rows, fc.integer({ min: 2, max: 60 }), (pieces, width) => {
      const table = new Table(columns, { width, colors: true });
      const lines = pieces.flatMap((rows) => table.lines(rows).split("\n").slice(0, -1));
      expect(lines).toHaveLength(1 + pieces.flat().length);
      for (const line of lines) {
        expect(widthOf(stripVTControlCharacters(line))).toBeLessThanOrEqual(width);
      }
    }),
  );
});

test.each([
  [37, "ID                NAME        AGE\n0123456789abcdef  Ada Lovel…  59m ago\n"],
  [27, "ID      NAME        AGE\n01234…  Ada Lovel…  59m ago\n"],
  [21, "ID      NAME\n01234…  Ada Lovelace\n"],
  [undefined, "ID                NAME          AGE\n0123456789abcdef  Ada Lovelace  59m ago\n"],
])("in %s columns, ids are whole or short, and the last columns give way", (width, expected) => {
  const table = new Table(columns, { width, colors: false });
  expect(table.lines(["Ada Lovelace"])).toBe(expected);
});
