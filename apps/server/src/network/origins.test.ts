import { expect, test } from "vitest";
import { parseOrigins } from "./origins.js";

test("origins stand in a list, each as a browser sends it", () => {
  const text =
    "https://app.example.com, http://localhost:5173,chrome-extension://abc,http://[::1]:80a";
  expect(() => parseOrigins(text)).toThrow("expected exact origins");
  expect(parseOrigins(text.slice(0, text.lastIndexOf(",")))).toEqual([
    "https://app.example.com",
    "http://localhost:5173",
    "chrome-extension://abc",
  ]);
});

test.each([
  ["https://app.example.com/", "https://app.example.com"],
  ["https://app.example.com/login", "https://app.example.com"],
  ["https://APP.example.com", "https://app.example.com"],
  ["https://app.example.com:443", "https://app.example.com"],
  ["https://user@app.example.com", "https://app.example.com"],
])("%s is no origin, and the right one is named", (text, origin) => {
  const message = `expected an origin as browsers send it, such as ${origin}`;
  expect(() => parseOrigins(text)).toThrow(new Error(message));
});

test.each(["*", "https://*.example.com", "null", "app.example.com", "", "https://a.test,"])(
  'nor is "%s"',
  (text) => {
    expect(() => parseOrigins(text)).toThrow(
      "expected exact origins such as https://app.example.com, separated by commas, without wildcards",
    );
  },
);
