import { expect, test } from "vitest";
import { isForged } from "./cross-origin.js";

const HOST = "shop.example.com";
const TRUSTED = new Set(["https://login.example.com"]);

function isRefused(fields: Record<string, string>, method = "POST"): boolean {
  const headers = new Headers({ host: HOST, ...fields });
  return isForged({ method, url: `http://${HOST}/`, headers }, TRUSTED);
}

test.each([
  ["a form of this site", { "sec-fetch-site": "same-origin", origin: "https://shop.example.com" }],
  [
    "a form of this site behind a proxy that changes the host",
    { "sec-fetch-site": "same-origin", origin: "https://public.example" },
  ],
  ["what the user typed or bookmarked", { "sec-fetch-site": "none" }],
  ["a program, which is no browser", {}],
  ["an older browser's form of this site", { origin: "https://shop.example.com" }],
  [
    "a page of a trusted origin",
    { "sec-fetch-site": "same-site", origin: "https://login.example.com" },
  ],
  ["an older browser's page of a trusted origin", { origin: "https://login.example.com" }],
])("%s may change something", (_, fields) => {
  expect(isRefused(fields)).toBe(false);
});

test.each([
  ["another site", { "sec-fetch-site": "cross-site", origin: "https://evil.example" }],
  ["a subdomain", { "sec-fetch-site": "same-site", origin: "https://blog.shop.example.com" }],
  ["another port", { origin: "https://shop.example.com:8443" }],
  ["a sandboxed frame", { origin: "null" }],
  [
    "a trusted host without TLS",
    { "sec-fetch-site": "cross-site", origin: "http://login.example.com" },
  ],
  ["another site that hides its origin", { "sec-fetch-site": "cross-site" }],
  ["a site whose name ends like ours", { origin: "https://evilshop.example.com" }],
])("a page of %s may change nothing, and read", (_, fields) => {
  for (const method of ["POST", "PUT", "PATCH", "DELETE", "post"]) {
    expect(isRefused(fields, method)).toBe(true);
  }
  for (const method of ["GET", "HEAD", "OPTIONS"]) expect(isRefused(fields, method)).toBe(false);
});
