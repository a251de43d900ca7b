import fc from "fast-check";
import { expect, test } from "vitest";
import { canonicalIp } from "./ip-address.js";

test.each([
  // The examples of RFC 5952.
  ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
  ["2001:0db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
  ["2001:db8::1:0:0:1", "2001:db8::1:0:0:1"],
  ["2001:db8::0:1:0:0:1", "2001:db8::1:0:0:1"],
  ["2001:0db8::1:0:0:1", "2001:db8::1:0:0:1"],
  ["2001:db8:0:0:1::1", "2001:db8::1:0:0:1"],
  ["2001:DB8:0:0:1::1", "2001:db8::1:0:0:1"],
  ["2001:db8:aaaa:bbbb:cccc:dddd:eeee:0001", "2001:db8:aaaa:bbbb:cccc:dddd:eeee:1"],
  ["2001:db8:aaaa:bbbb:cccc:dddd:0:1", "2001:db8:aaaa:bbbb:cccc:dddd:0:1"],
  ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
  ["2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
  ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
  ["2001:db8:0:0:0:0:2:1", "2001:db8::2:1"],
  ["0:0:0:0:0:0:0:1", "::1"],
  // The first of two runs that are equally long, also at the beginning.
  ["0:0:0:1:0:0:0:1", "::1:0:0:0:1"],
  ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
  ["0:0:0:0:0:0:0:0", "::"],
  ["203.0.113.7", "203.0.113.7"],
  ["::ffff:203.0.113.7", "203.0.113.7"],
  ["::FFFF:CB00:7107", "203.0.113.7"],
  // Other addresses that end in an IPv4 address are not that address.
  ["::203.0.113.7", "::203.0.113.7"],
  ["::ffff:0:203.0.113.7", "::ffff:0:cb00:7107"],
  ["64:ff9b::203.0.113.7", "64:ff9b::cb00:7107"],
  ["fe80::1%eth0", "fe80::1"],
  ["::ffff:203.0.113.7%1", "203.0.113.7"],
])("the address %s is kept as %s", (text, canonical) => {
  expect(canonicalIp(text)).toBe(canonical);
});

test.each([
  ...["", "unknown", "localhost", "203.0.113.7:4711", "[::1]", "[::1]:443", " ::1", "::1 "],
  ...["203.0.113.7, 10.0.0.1", "203.0.113.7/32", "2001:db8::/32", "203.0.113.256", "1::2::3"],
  // Forms that inet_aton knows. Programs do not agree on their meaning.
  ...["127.1", "0x7f.1", "0x7f.0.0.1", "010.0.0.1", "2130706433", "::ffff:010.0.0.1"],
  // Digits of another script.
  "\u0661.1.1.1",
])("%j is no address", (text) => {
  expect(canonicalIp(text)).toBeUndefined();
});

/** IPv6 as RFC 5952 writes it, from its eight numbers. Needs none that is IPv4 in mixed notation. */
function rfc5952(words: readonly number[]): string {
  const runs = words.map((_, start) => {
    const rest = words.slice(start);
    const end = rest.findIndex((word) => word !== 0);
    return { start, length: end === -1 ? rest.length : end };
  });
  const longest = runs.reduce((best, run) => (run.length > best.length ? run : best));
  const hex = words.map((word) => word.toString(16));
  if (longest.length < 2) return hex.join(":");
  const tail = hex.slice(longest.start + longest.length);
  return `${hex.slice(0, longest.start).join(":")}::${tail.join(":")}`;
}

const zeros = fc.constant(0);
const word = fc.oneof({ weight: 3, arbitrary: zeros }, fc.integer({ min: 0, max: 0xffff }));

test("every spelling of an address has the one form of RFC 5952", () => {
  const address = fc.tuple(fc.integer({ min: 1, max: 0xffff }), fc.array(word, fixed(7)));
  const spelling = fc.record({ widths: fc.array(fc.integer({ min: 1, max: 4 }), fixed(8)) });
  const options = fc.record({ spelling, isUpper: fc.boolean(), isMixed: fc.boolean() });
  fc.assert(
    fc.property(address, options, ([first, rest], { spelling, isUpper, isMixed }) => {
      const words = [first, ...rest];
      const groups = words.map((w, i) => w.toString(16).padStart(spelling.widths[i] ?? 1, "0"));
      const [high = 0, low = 0] = words.slice(6);
      const ipv4 = [high >> 8, high & 255, low >> 8, low & 255].join(".");
      const text = isMixed ? [...groups.slice(0, 6), ipv4].join(":") : groups.join(":");
      const canonical = rfc5952(words);
      expect(canonicalIp(isUpper ? text.toUpperCase() : text)).toBe(canonical);
      expect(canonicalIp(canonical)).toBe(canonical);
    }),
    { numRuns: 1_000 },
  );
});

test("the form of an address is its own form, and any text is an address or none", () => {
  const text = fc.oneof(fc.ipV6(), fc.ipV4(), fc.ipV4Extended(), fc.string());
  fc.assert(
    fc.property(text, (text) => {
      const canonical = canonicalIp(text);
      if (canonical !== undefined) expect(canonicalIp(canonical)).toBe(canonical);
    }),
    { numRuns: 1_000 },
  );
});

function fixed(length: number) {
  return { minLength: length, maxLength: length };
}
