import type { RequestListener } from "node:http";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { parseTrustedUrl } from "../network/trusted-url.js";
import { TestIssuer } from "../testing/test-issuer.js";
import { type KeySource, loadKeySet } from "./key-source.js";

let issuer: TestIssuer;
beforeAll(async () => {
  issuer = await TestIssuer.start();
  await issuer.addKey("k1");
});
afterAll(() => issuer.close());
beforeEach(() => {
  issuer.respond = undefined;
  issuer.requests.length = 0;
});

const DISCOVERY: KeySource = { kind: "discovery" };

function load(source: KeySource, signal = AbortSignal.timeout(5_000), name = issuer.url) {
  return loadKeySet(name, source, signal);
}

function fromUrl(): KeySource {
  return { kind: "url", url: issuer.jwksUrl };
}

/** An issuer whose documents are these, by path. */
function serving(documents: Record<string, unknown>): RequestListener {
  return (request, response) => response.end(JSON.stringify(documents[request.url ?? ""]));
}

test("keys come from a URL", async () => {
  expect((await load(fromUrl())).fingerprint).toContain('"kid":"k1"');
  expect(issuer.requests).toEqual(["/jwks"]);
});

test("keys are found by discovery, also where the issuer ends in a slash", async () => {
  expect((await load(DISCOVERY)).fingerprint).toContain('"kid":"k1"');
  expect(issuer.requests).toEqual(["/.well-known/openid-configuration", "/jwks"]);
  issuer.respond = serving({
    "/tenant/.well-known/openid-configuration": {
      issuer: `${issuer.url}/tenant/`,
      jwks_uri: `${issuer.url}/t`,
    },
    "/t": { keys: issuer.published },
  });
  await expect(load(DISCOVERY, undefined, `${issuer.url}/tenant/`)).resolves.toBeDefined();
});

describe("discovery is refused where the document", () => {
  test.each([
    ["is about another issuer", { issuer: "http://127.0.0.1:1" }, "about another issuer"],
    ["names no issuer", { issuer: undefined }, "about another issuer"],
    ["names no keys", { jwks_uri: undefined }, "names no jwks_uri"],
    ["has keys at no URL", { jwks_uri: "/jwks" }, "expected a URL"],
    ["has keys behind plain http", { jwks_uri: "http://id.example.com/jwks" }, "expected an https"],
    ["has keys in a file", { jwks_uri: "file:///etc/passwd" }, "expected an https"],
  ])("%s", async (_, change, expected) => {
    const document = { issuer: issuer.url, jwks_uri: issuer.jwksUrl, ...change };
    issuer.respond = serving({ "/.well-known/openid-configuration": document });
    await expect(load(DISCOVERY)).rejects.toThrow(expected);
    expect(issuer.requests).toEqual(["/.well-known/openid-configuration"]);
  });

  test("is no JSON object", async () => {
    issuer.respond = (_, response) => response.end("null");
    await expect(load(DISCOVERY)).rejects.toThrow("expected a JSON object");
    issuer.respond = (_, response) => response.end("<html>");
    await expect(load(DISCOVERY)).rejects.toThrow("is not valid JSON");
  });
});

describe("an answer is refused where", () => {
  test.each([301, 302, 307, 308])(
    "it redirects with %d, and the target is not asked",
    async (status) => {
      issuer.respond = (_, response) =>
        response.writeHead(status, { location: "/elsewhere" }).end();
      await expect(load(fromUrl())).rejects.toThrow(`got ${status}`);
      expect(issuer.requests).toEqual(["/jwks"]);
    },
  );

  test.each([204, 401, 404, 500, 503])("its status is %d", async (status) => {
    issuer.respond = (_, response) => response.writeHead(status).end();
    await expect(load(fromUrl())).rejects.toThrow(`got ${status}`);
  });

  test("it is too long, be it by one byte", async () => {
    const limit = 256 * 1024;
    issuer.respond = (_, response) => response.end(issuer.jwks.padEnd(limit));
    await expect(load(fromUrl())).resolves.toBeDefined();
    issuer.respond = (_, response) => response.end(issuer.jwks.padEnd(limit + 1));
    await expect(load(fromUrl())).rejects.toThrow(`expected at most ${limit} bytes`);
  });

  test("it never ends", async () => {
    issuer.respond = (_, response) => {
      const timer = setInterval(() => response.write("          "), 10);
      response.on("close", () => clearInterval(timer));
    };
    await expect(load(fromUrl(), AbortSignal.timeout(100))).rejects.toThrow("due to timeout");
  });

  test("it never begins", async () => {
    issuer.respond = () => {};
    await expect(load(fromUrl(), AbortSignal.timeout(100))).rejects.toThrow("due to timeout");
  });
});

describe("a URL is trusted", () => {
  test.each([
    "https://id.example.com",
    "https://id.example.com:8443/tenant/",
    "http://127.0.0.1:9000",
    "http://[::1]:9000/x",
    "http://localhost",
  ])("%s", (text) => {
    expect(parseTrustedUrl(text).href).toContain(text);
  });
});

describe("a URL is not trusted", () => {
  test.each([
    ["http://id.example.com", "expected an https:// URL"],
    ["http://10.0.0.1", "expected an https:// URL"],
    ["http://localhost.example.com", "expected an https:// URL"],
    ["ftp://127.0.0.1", "expected an https:// URL"],
    ["file:///etc/passwd", "expected an https:// URL"],
    ["https://user:pass@id.example.com", "without user name and password"],
    ["id.example.com", "expected a URL"],
    ["", "expected a URL"],
  ])("%s", (text, expected) => {
    expect(() => parseTrustedUrl(text)).toThrow(expected);
  });
});
