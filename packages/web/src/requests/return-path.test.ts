import fc from "fast-check";
import { expect, test } from "vitest";
import { returnPath } from "./return-path.js";

test("a path of this application stays as it is", () => {
  expect(returnPath("/devices?a=1#b")).toBe("/devices?a=1#b");
});

const PIECES = [
  "/",
  "\\",
  "//",
  "..",
  ".",
  "@",
  ":",
  "?",
  "#",
  "\t",
  "\n",
  "%2f",
  "http:",
  "evil.example",
  "a",
];

test("no text leads to another origin", () => {
  const texts = fc.array(fc.constantFrom(...PIECES), { maxLength: 8 }).map((each) => each.join(""));
  fc.assert(
    fc.property(
      fc.oneof(
        texts,
        texts.map((text) => `/${text}`),
      ),
      (text) => {
        const origin = "https://shop.example.com";
        expect(new URL(returnPath(text), `${origin}/login`).origin).toBe(origin);
      },
    ),
    { numRuns: 5000 },
  );
});
