import { expect, test } from "vitest";
import { parseTrustedUrl } from "./trusted-url.js";

test.each([
  "https://id.example.com",
  "https://id.example.com:8443/tenant/",
  "http://127.0.0.1:9000",
  "http://[::1]:9000/x",
  "http://localhost",
])("%s is trusted", (text) => {
  expect(parseTrustedUrl(text).href).toContain(text);
});

test.each([
  ["http://id.example.com", "expected an https:// URL"],
  ["http://10.0.0.1", "expected an https:// URL"],
  ["http://localhost.example.com", "expected an https:// URL"],
  ["ftp://127.0.0.1", "expected an https:// URL"],
  ["file:///etc/passwd", "expected an https:// URL"],
  ["https://user:pass@id.example.com", "without user name and password"],
  ["id.example.com", "expected a URL"],
  ["", "expected a URL"],
])("%j is not trusted", (text, expected) => {
  expect(() => parseTrustedUrl(text)).toThrow(expected);
});
