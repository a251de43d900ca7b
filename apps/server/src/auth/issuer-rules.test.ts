import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { holdKeys } from "../testing/held-issuer.js";
import { TestIssuer, type TestToken } from "../testing/test-issuer.js";
import { type AccessTokenVerifier, createAccessTokenVerifier } from "./access-token.js";
import type { Caller } from "./caller.js";
import type { IssuerConfig } from "./issuer.js";

const ROLES = new Map([["support", ["sessions:read"]]]);
const ANOTHER_AUDIENCE = "the access token is for another audience";

let issuer: TestIssuer;
let verifier: AccessTokenVerifier;

beforeEach(async () => {
  issuer = await TestIssuer.start();
  onTestFinished(() => issuer.close());
  await issuer.addKey("k1");
  verifier = verifierWith({});
});

/** The rules for the tokens of `issuer`, changed. */
function rules(change: Partial<IssuerConfig> = {}): IssuerConfig {
  return {
    issuer: issuer.url,
    audiences: ["sessiond"],
    algorithms: ["ES256"],
    keys: { kind: "url", url: issuer.jwksUrl },
    clockToleranceMs: 0,
    ...change,
  };
}

function verifierWith(change: Partial<IssuerConfig>): AccessTokenVerifier {
  const made = createAccessTokenVerifier({ issuers: [rules(change)], roles: ROLES });
  onTestFinished(() => made.close());
  return made;
}

async function verified(token: string | TestToken = {}): Promise<Caller> {
  return verifier.verify(typeof token === "string" ? token : await issuer.sign(token));
}

async function refused(token: string | TestToken, message: string): Promise<void> {
  await expect(verified(token)).rejects.toMatchObject({ message });
}

describe("an issuer's entry may name where", () => {
  test.each([
    ["scp", { scp: "a:b  c:d" }, ["a:b", "c:d"]],
    ["scp", { scp: ["a:b", 7, "c:d"] }, ["a:b", "c:d"]],
    ["scp", { scope: "a:b", permissions: ["c:d"] }, []],
    ["scp", { scp: { "a:b": true } }, []],
    ["a.b", { a: { b: "a:b" }, "a.b": "c:d" }, ["a:b"]],
  ])("permissions stand: %s of %j grants %j", async (path, given, expected) => {
    verifier = verifierWith({ permissionsClaim: path.split(".") });
    const { permissions } = await verified({ claims: given });
    expect([...permissions]).toEqual(expected);
  });

  test.each([
    [{ realm_access: { roles: ["support", "unknown"] } }, ["sessions:read"]],
    [{ realm_access: { roles: "support" } }, ["sessions:read"]],
    [{ roles: ["support"], realm_access: ["support"] }, []],
    [{ roles: ["support"], scope: "a:b" }, ["a:b"]],
  ])("roles stand: realm_access.roles of %j grants %j", async (given, expected) => {
    verifier = verifierWith({ rolesClaim: ["realm_access", "roles"] });
    const { permissions } = await verified({ claims: given });
    expect([...permissions]).toEqual(expected);
  });
});

describe("a caller's namespace", () => {
  test("is the one of the issuer, whatever the token says", async () => {
    verifier = verifierWith({ namespace: "shop" });
    expect(await verified({ claims: { namespace: "other" } })).toMatchObject({ namespace: "shop" });
  });

  test("is what the configured claim names", async () => {
    verifier = verifierWith({ namespaceClaim: ["azp"] });
    expect(await verified({ claims: { azp: "shop" } })).toMatchObject({ namespace: "shop" });
    expect(await verified({ claims: { azp: "blog" } })).toMatchObject({ namespace: "blog" });
    verifier = verifierWith({ namespaceClaim: ["tenant", "name"] });
    const tenant = { name: "s".repeat(64) };
    expect(await verified({ claims: { tenant } })).toMatchObject({ namespace: tenant.name });
  });

  test.each([
    [{}],
    [{ "tenant.name": "shop" }],
    [{ tenant: "shop" }],
    [{ tenant: null }],
    [{ tenant: ["shop"] }],
  ])("is not guessed for a token with %j, which is refused", async (given) => {
    verifier = verifierWith({ namespaceClaim: ["tenant", "name"] });
    await refused(
      { claims: given },
      'the access token has no claim "tenant.name", which must name the caller\'s namespace',
    );
  });

  test.each([
    "",
    " ",
    "Shop",
    "shop:a",
    "shop\n",
    "-shop",
    "ns{1}",
    "s".repeat(65),
    null,
    7,
    true,
    ["shop"],
    { shop: "shop" },
  ])("is never %j: the token is refused", async (tenant) => {
    verifier = verifierWith({ namespaceClaim: ["tenant"] });
    await refused(
      { claims: { tenant } },
      'the access token\'s claim "tenant" is not the name of a namespace: expected 1 to 64 ' +
        "characters out of a-z 0-9 . _ - that begin with a letter or a digit",
    );
  });

  test("is no property that every object has", async () => {
    verifier = verifierWith({ namespaceClaim: ["constructor"] });
    await refused(
      {},
      'the access token has no claim "constructor", which must name the caller\'s namespace',
    );
  });
});

describe("after other issuers or rules were given", () => {
  test("a remembered token is refused if its issuer or audience is not accepted any more", async () => {
    const token = await issuer.sign();
    await verified(token);
    verifier.accept({ issuers: [rules({ audiences: ["other"] })], roles: ROLES });
    await refused(token, ANOTHER_AUDIENCE);
    verifier.accept({ issuers: [rules({ issuer: "https://id.example.com" })], roles: ROLES });
    await expect(verified(token)).rejects.toThrow("unknown issuer");
    verifier.accept({ issuers: [rules()], roles: ROLES });
    await verified(token);
  });

  test("a remembered token has the permissions that its roles have now", async () => {
    const token = await issuer.sign({ claims: { roles: ["support"] } });
    expect((await verified(token)).permissions).toEqual(new Set(["sessions:read"]));
    verifier.accept({ issuers: [rules()], roles: new Map([["support", ["locks:use"]]]) });
    expect((await verified(token)).permissions).toEqual(new Set(["locks:use"]));
  });

  test("an answer that was under way by the old ones is not remembered", async () => {
    const token = await issuer.sign();
    const { asked, release } = holdKeys(issuer);
    const before = verified(token);
    await asked();
    verifier.accept({ issuers: [rules({ audiences: ["other"] })], roles: ROLES });
    release();
    await before;
    await refused(token, ANOTHER_AUDIENCE);
  });

  test("an issuer keeps its keys, so that its outage is still bridged", async () => {
    await verified();
    issuer.respond = (_, response) => response.writeHead(500).end();
    verifier.accept({ issuers: [rules({ clockToleranceMs: 0 })], roles: ROLES });
    await verified();
    verifier.accept({ issuers: [rules({ keys: { kind: "discovery" } })], roles: ROLES });
    await refused({}, `the signing keys of issuer ${issuer.url} are unavailable`);
  });
});
