import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
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

/** Answers with these documents, by path. */
function serving(documents: Record<string, unknown>): RequestListener {
  return (request, response) => response.end(JSON.stringify(documents[request.url ?? ""]));
}

test("keys come from a URL", async () => {
  expect((await load(fromUrl())).fingerprint).toContain('"kid":"k1"');
  expect(issuer.requests).toEqual(["/jwks"]);
});

test.each(["", "/tenant/"])("keys are found by discovery of an issuer at %j", async (path) => {
  const document = { issuer: `${issuer.url}${path}`, jwks_uri: `${issuer.url}/keys` };
  const discoveryPath = `${path.replace(/\/$/, "")}/.well-known/openid-configuration`;
  issuer.respond = serving({ [discoveryPath]: document, "/keys": { keys: issuer.published } });
  const { fingerprint } = await load(DISCOVERY, undefined, document.issuer);
  expect(fingerprint).toContain('"kid":"k1"');
  expect(issuer.requests).toEqual([discoveryPath, "/keys"]);
});

describe("discovery is refused if the document", () => {
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

describe("an answer is refused if", () => {
  test.each([204, 301, 302, 307, 308, 401, 404, 500, 503])(
    "its status is %d, and no redirect is followed",
    async (status) => {
      issuer.respond = (_, response) =>
        response.writeHead(status, { location: "/elsewhere" }).end();
      await expect(load(fromUrl())).rejects.toThrow(`got ${status}`);
      expect(issuer.requests).toEqual(["/jwks"]);
    },
  );

  test("it is too long by one byte", async () => {
    const limit = 256 * 1024;
    issuer.respond = (_, response) => response.end(issuer.jwks.padEnd(limit));
    await expect(load(fromUrl())).resolves.toBeDefined();
    issuer.respond = (_, response) => response.end(issuer.jwks.padEnd(limit + 1));
    await expect(load(fromUrl())).rejects.toThrow(`expected at most ${limit} bytes`);
  });

  test.each([
    ["begins", () => {}],
    ["ends", writeOnAndOn],
  ] satisfies [string, RequestListener][])("it never %s", async (_, respond) => {
    issuer.respond = respond;
    await expect(load(fromUrl(), AbortSignal.timeout(100))).rejects.toThrow("due to timeout");
  });
});

function writeOnAndOn(_: IncomingMessage, response: ServerResponse): void {
  const timer = setInterval(() => response.write("          "), 10);
  response.on("close", () => clearInterval(timer));
}
