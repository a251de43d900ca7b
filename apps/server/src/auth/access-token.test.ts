import { createHmac, createPublicKey, generateKeyPairSync, sign } from "node:crypto";
import { writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SessiondError } from "@sessiond/core";
import { exportJWK } from "jose";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { TestIssuer, type TestToken } from "../testing/test-issuer.js";
import { type AccessTokenVerifier, createAccessTokenVerifier } from "./access-token.js";
import type { Caller } from "./caller.js";
import { ALGORITHMS, type AuthConfig, type IssuerConfig } from "./issuer.js";

const REMEMBERED_MS = 5 * 60_000;
const TOLERANCE_MS = 5_000;
const TOKEN_TTL_MS = 600_000;
const SCOPE = "sessions:read";

let nowMs = 0;
let issuer: TestIssuer;
let verifier: AccessTokenVerifier;

const now = () => nowMs;

beforeEach(async () => {
  nowMs = Date.UTC(2026, 0, 1);
  issuer = await TestIssuer.start(now);
  await issuer.addKey("k1");
  verifier = verifierWith();
});
afterEach(async () => {
  verifier.close();
  await issuer.close();
});

function verifierWith(
  change: Partial<IssuerConfig> = {},
  roles: Record<string, readonly string[]> = {},
): AccessTokenVerifier {
  const config: IssuerConfig = {
    issuer: issuer.url,
    audiences: ["sessiond"],
    algorithms: ["ES256"],
    keys: { kind: "url", url: issuer.jwksUrl },
    clockToleranceMs: TOLERANCE_MS,
    ...change,
  };
  const auth: AuthConfig = { issuers: [config], roles: new Map(Object.entries(roles)) };
  return createAccessTokenVerifier(auth, { now, timeoutMs: 2_000 });
}

/** Verifies and expects a refusal with this message, which must not repeat the token. */
async function refused(token: string, message: string): Promise<void> {
  const error: unknown = await Promise.resolve(verifier.verify(token)).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(SessiondError);
  expect(error).toMatchObject({ reason: "UNAUTHENTICATED", message });
  for (const part of token.split(".").filter((text) => text.length > 8)) {
    expect(message).not.toContain(part);
  }
}

async function refusedWith(token: TestToken, message: string): Promise<void> {
  await refused(await issuer.sign(token), message);
}

function isAccepted(by: AccessTokenVerifier, token: string): Promise<boolean> {
  return Promise.resolve(by.verify(token)).then(
    () => true,
    () => false,
  );
}

function permissionsOf(caller: Caller): readonly string[] {
  return [...caller.permissions].sort();
}

/** A token put together by hand, for what no library would sign. */
function compact(header: object, claims: object, sign: (input: string) => string): string {
  const encode = (json: object) => Buffer.from(JSON.stringify(json)).toString("base64url");
  const input = `${encode(header)}.${encode(claims)}`;
  return `${input}.${sign(input)}`;
}

function claims(): object {
  const nowS = Math.floor(nowMs / 1000);
  return { iss: issuer.url, aud: "sessiond", sub: "billing", exp: nowS + 600 };
}

describe("a token is accepted", () => {
  test("and says who calls and what they may do", async () => {
    const caller = await verifier.verify(await issuer.sign({ claims: { scope: SCOPE } }));
    expect(caller).toEqual({
      issuer: issuer.url,
      subject: "billing",
      permissions: new Set([SCOPE]),
    });
  });

  test.each(ALGORITHMS)("signed with %s, where that is configured", async (algorithm) => {
    await issuer.addKey("k2", algorithm);
    verifier = verifierWith({ algorithms: ["ES256", algorithm] });
    await expect(verifier.verify(await issuer.sign({ kid: "k2" }))).resolves.toBeDefined();
  });

  test("without a key id, by whichever key of several signed it", async () => {
    await issuer.addKey("k2");
    await issuer.addKey("k3");
    for (const kid of ["k1", "k2", "k3"]) {
      const token = await issuer.sign({ kid, header: { kid: undefined } });
      await expect(verifier.verify(token)).resolves.toBeDefined();
    }
    issuer.withdrawKey("k2");
    verifier = verifierWith();
    await refusedWith(
      { kid: "k2", header: { kid: undefined } },
      "the access token's signature is wrong",
    );
    await refusedWith(
      { kid: "k3", header: { kid: undefined }, claims: { aud: "other" } },
      "the access token is for another audience",
    );
  });

  test("for one of several audiences, by one of several accepted", async () => {
    verifier = verifierWith({ audiences: ["a", "b"] });
    await expect(
      verifier.verify(await issuer.sign({ claims: { aud: ["b", "c"] } })),
    ).resolves.toBeDefined();
    await refusedWith({ claims: { aud: ["c"] } }, "the access token is for another audience");
  });

  test("by a key from a file, also after the file was replaced", async () => {
    const directory = await mkdtemp(join(tmpdir(), "sessiond-jwks-"));
    const path = join(directory, "jwks.json");
    writeFileSync(path, issuer.jwks);
    verifier = verifierWith({ keys: { kind: "file", path } });
    await verifier.verify(await issuer.sign());
    await issuer.addKey("k2");
    writeFileSync(path, issuer.jwks);
    nowMs += 10_000;
    await expect(verifier.verify(await issuer.sign())).resolves.toBeDefined();
    expect(issuer.requests).toEqual([]);
    await rm(directory, { recursive: true });
  });

  test("by its own issuer's rules, where there are several issuers", async () => {
    const other = await TestIssuer.start(now);
    await other.addKey("k1", "EdDSA");
    const rules = { typ: undefined, clockToleranceMs: 0 };
    const common = {
      clockToleranceMs: rules.clockToleranceMs,
      keys: { kind: "discovery" },
    } as const;
    verifier = createAccessTokenVerifier(
      {
        issuers: [
          { ...common, issuer: issuer.url, audiences: ["a"], algorithms: ["ES256"] },
          { ...common, issuer: other.url, audiences: ["b"], algorithms: ["EdDSA"] },
        ],
        roles: new Map(),
      },
      { now },
    );
    await expect(
      verifier.verify(await issuer.sign({ claims: { aud: "a" } })),
    ).resolves.toBeDefined();
    await expect(
      verifier.verify(await other.sign({ claims: { aud: "b" } })),
    ).resolves.toBeDefined();
    await refusedWith({ claims: { aud: "b" } }, "the access token is for another audience");
    // The key id is the same, so only the issuer's own keys tell the difference.
    const forged = await other.sign({ claims: { iss: issuer.url, aud: "a" } });
    await refused(forged, "the access token is signed with an algorithm that is not accepted");
    await other.close();
  });
});

describe("permissions", () => {
  const ROLES = { support: ["sessions:read"], admin: ["sessions:read", "sessions:delete"] };

  test.each([
    [{ scope: "a:b  c:d" }, ["a:b", "c:d"]],
    [{ permissions: ["a:b", "c:d"] }, ["a:b", "c:d"]],
    [{ roles: ["support", "admin", "unknown"] }, ["sessions:delete", "sessions:read"]],
    [{ scope: "a:b", permissions: ["c:d"], roles: ["support"] }, ["a:b", "c:d", "sessions:read"]],
    [{}, []],
    [{ scope: "" }, []],
    [{ scope: ["a:b"], permissions: "a:b", roles: "admin" }, []],
    [{ permissions: [1, null, "a:b"], roles: [{}, "constructor", "__proto__"] }, ["a:b"]],
  ])("%j grants %j", async (granting, expected) => {
    verifier = verifierWith({}, ROLES);
    const caller = await verifier.verify(await issuer.sign({ claims: granting }));
    expect(permissionsOf(caller)).toEqual(expected);
  });
});

describe("a token is refused", () => {
  test("where it is missing", () => refused("", "an access token is missing"));

  test("where it is from an unknown issuer, of which nothing is asked", async () => {
    await refusedWith(
      { claims: { iss: "https://evil.example.com" } },
      "the access token is from an unknown issuer",
    );
    await refusedWith({ claims: { iss: undefined } }, "the access token is from an unknown issuer");
    await refusedWith(
      { claims: { iss: [issuer.url] } },
      "the access token is from an unknown issuer",
    );
    await refusedWith(
      { claims: { iss: `${issuer.url}/` } },
      "the access token is from an unknown issuer",
    );
    expect(issuer.requests).toEqual([]);
  });

  test("where it is for another audience", async () => {
    await refusedWith({ claims: { aud: "other" } }, "the access token is for another audience");
    await refusedWith({ claims: { aud: [] } }, "the access token is for another audience");
    await refusedWith({ claims: { aud: "Sessiond" } }, "the access token is for another audience");
  });

  test.each(["exp", "aud", "sub"])("where it has no %s", async (claim) => {
    await refusedWith(
      { claims: { [claim]: undefined } },
      `the access token has no claim "${claim}"`,
    );
  });

  test.each([
    ["sub", ""],
    ["sub", 7],
    ["sub", null],
    ["exp", "soon"],
    ["nbf", "soon"],
    ["iat", "soon"],
  ])("where its %s is %j", async (claim, value) => {
    const message = `the access token's claim "${claim}" is malformed`;
    await refusedWith({ claims: { [claim]: value } }, message);
  });

  test("where it never expires", async () => {
    const token = await issuer.sign({ claims: { exp: 1e308 } });
    await expect(verifier.verify(token)).resolves.toBeDefined();
    // JSON has no infinity, but 1e999 is read as one; jose would not write it.
    const { privateKey, publicKey } = generateKeyPairSync("ed25519");
    issuer.published.push({ ...(await exportJWK(publicKey)), kid: "ed" });
    verifier = verifierWith({ algorithms: ["EdDSA"] });
    const infinite = Buffer.from(
      JSON.stringify({ ...claims(), exp: 0 }).replace('"exp":0', '"exp":1e999'),
    );
    const header = Buffer.from('{"alg":"EdDSA","kid":"ed"}').toString("base64url");
    const input = `${header}.${infinite.toString("base64url")}`;
    const signature = sign(null, Buffer.from(input), privateKey).toString("base64url");
    await refused(`${input}.${signature}`, `the access token's claim "exp" is malformed`);
  });

  test("from the moment it expires on, give or take the tolerance", async () => {
    const token = await issuer.sign();
    nowMs += TOKEN_TTL_MS + TOLERANCE_MS - 1;
    await expect(verifier.verify(token)).resolves.toBeDefined();
    nowMs += 1;
    await refused(token, "the access token has expired");
    await refused(token, "the access token has expired");
  });

  test("until it is valid, give or take the tolerance", async () => {
    const nbf = nowMs / 1000 + 60;
    const token = await issuer.sign({ claims: { nbf } });
    nowMs += 60_000 - TOLERANCE_MS - 1;
    await refused(token, "the access token is not valid yet");
    nowMs += 1;
    await expect(verifier.verify(token)).resolves.toBeDefined();
  });

  test.each(["logout+jwt", "dpop+jwt", "application/secevent+jwt", "at", "", "id_token", 7, null])(
    "where its type is %j",
    (typ) => refusedWith({ header: { typ } }, "the token is of another type than an access token"),
  );

  test.each([undefined, "JWT", "jwt", "at+jwt", "application/at+jwt", "AT+JWT"])(
    "but not where its type is %s",
    async (typ) => {
      await expect(verifier.verify(await issuer.sign({ header: { typ } }))).resolves.toBeDefined();
    },
  );

  test("where its type is another than the one configured", async () => {
    verifier = verifierWith({ typ: "at+jwt" });
    await expect(
      verifier.verify(await issuer.sign({ header: { typ: "application/at+jwt" } })),
    ).resolves.toBeDefined();
    const message = "the token is of another type than an access token";
    await refusedWith({ header: { typ: "JWT" } }, message);
    await refusedWith({ header: { typ: undefined } }, message);
  });

  test("where nobody signed it", async () => {
    const message = "the access token is signed with an algorithm that is not accepted";
    for (const alg of ["none", "None", "NONE"]) {
      await refused(
        compact({ alg, kid: "k1" }, claims(), () => ""),
        message,
      );
      await refused(
        compact({ alg, typ: "JWT" }, claims(), () => "AAAA"),
        message,
      );
    }
    expect(issuer.requests).toHaveLength(1);
  });

  test("where the public key was used as a shared secret", async () => {
    const [jwk] = issuer.published;
    const key = createPublicKey({ key: JSON.parse(JSON.stringify(jwk)), format: "jwk" });
    const secrets = [
      key.export({ type: "spki", format: "pem" }),
      key.export({ type: "spki", format: "der" }),
      JSON.stringify(jwk),
    ];
    for (const secret of secrets) {
      const token = compact({ alg: "HS256", kid: "k1", typ: "JWT" }, claims(), (input) =>
        createHmac("sha256", secret).update(input).digest("base64url"),
      );
      await refused(token, "the access token is signed with an algorithm that is not accepted");
    }
  });

  test("where its algorithm is one of the key, but not of the configuration", async () => {
    await issuer.addKey("k2", "ES384");
    const message = "the access token is signed with an algorithm that is not accepted";
    await refusedWith({ kid: "k2" }, message);
  });

  test("where it brings its own key", async () => {
    const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const jwk = await exportJWK(publicKey);
    const token = compact(
      { alg: "ES256", kid: "k1", jwk, jku: "http://127.0.0.1:1" },
      claims(),
      (input) =>
        sign("sha256", Buffer.from(input), { key: privateKey, dsaEncoding: "ieee-p1363" }).toString(
          "base64url",
        ),
    );
    await refused(token, "the access token's signature is wrong");
  });

  test("where any one character of its signature or content was changed", async () => {
    const token = await issuer.sign({ claims: { scope: SCOPE } });
    await verifier.verify(token);
    const [header = "", payload = "", signature = ""] = token.split(".");
    for (let i = 0; i < signature.length - 1; i += 5) {
      const flipped = signature[i] === "A" ? "B" : "A";
      const forged = signature.slice(0, i) + flipped + signature.slice(i + 1);
      await refused(`${header}.${payload}.${forged}`, "the access token's signature is wrong");
    }
    const scope = Buffer.from(payload, "base64url").toString().replace("read", "full");
    const forged = Buffer.from(scope).toString("base64url");
    await refused(`${header}.${forged}.${signature}`, "the access token's signature is wrong");
  });

  test("where it is too long by one character, and nothing of it is read", async () => {
    const limit = 8 * 1024;
    const base = await issuer.sign({ claims: { pad: "" } });
    const padding = "x".repeat(Math.floor(((limit - base.length) * 3) / 4) - 2);
    const fitting = await issuer.sign({ claims: { pad: padding } });
    expect(fitting.length).toBeGreaterThan(limit - 8);
    expect(fitting.length).toBeLessThanOrEqual(limit);
    await expect(verifier.verify(fitting)).resolves.toBeDefined();
    const malformed = "the access token is malformed: expected a signed JWT";
    await refused("x".repeat(limit), malformed);
    await refused("x".repeat(limit + 1), "the access token has more than 8192 characters");
  });

  test("where its key is unknown, and the issuer's keys are asked for no more than they must", async () => {
    const message = "the access token is signed with a key that its issuer does not have";
    for (let i = 0; i < 5; i++) await refusedWith({ header: { kid: `unknown-${i}` } }, message);
    expect(issuer.requests).toHaveLength(1);
    nowMs += 10_000;
    for (let i = 0; i < 5; i++) await refusedWith({ header: { kid: `other-${i}` } }, message);
    expect(issuer.requests).toHaveLength(2);
  });

  test.each([
    "garbage",
    "..",
    "a.b.c",
    "a.b.c.d.e",
    "eyJhbGciOiJFUzI1NiJ9..",
    "\u0000\u00ff",
    "%%%.%%%.%%%",
    ".bnVsbA.",
    "e30.W10.e30",
    "e30.bnVsbA.e30",
  ])("where it is garbage such as %j", async (token) => {
    await refused(token, "the access token is malformed: expected a signed JWT");
  });

  test("whatever was done to it at random, and always as the caller's own fault", async () => {
    const token = await issuer.sign({ header: { typ: "JWT" } });
    let seed = 1;
    const random = (limit: number) => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed % limit;
    };
    for (let i = 0; i < 300; i++) {
      const at = random(token.length - 1);
      const character = String.fromCharCode(33 + random(94));
      const mangled = token.slice(0, at) + character + token.slice(at + random(3));
      if (mangled === token) continue;
      await expect(Promise.resolve(verifier.verify(mangled)), mangled).rejects.toMatchObject({
        reason: "UNAUTHENTICATED",
      });
    }
  });
});

describe("an issuer that is down", () => {
  const message = () => `the signing keys of issuer ${issuer.url} are unavailable`;

  test("is not the caller's fault", async () => {
    issuer.respond = (_, response) => response.writeHead(500).end();
    const token = await issuer.sign();
    await expect(verifier.verify(token)).rejects.toMatchObject({
      reason: "ISSUER_UNAVAILABLE",
      message: message(),
    });
    issuer.respond = undefined;
    nowMs += 1_000;
    await expect(verifier.verify(token)).resolves.toBeDefined();
  });

  test("does not keep the tokens of another from being verified", async () => {
    const other = await TestIssuer.start(now);
    await other.addKey("k1");
    const rules = { audiences: ["sessiond"], algorithms: ["ES256"], clockToleranceMs: 0 };
    const keys = { kind: "discovery" } as const;
    const issuers = [issuer, other].map(({ url }) => ({ ...rules, issuer: url, keys }));
    verifier = createAccessTokenVerifier({ issuers, roles: new Map() }, { now });
    issuer.respond = () => {};
    const stuck = verifier.verify(await issuer.sign());
    await expect(verifier.verify(await other.sign())).resolves.toBeDefined();
    verifier.close();
    await expect(stuck).rejects.toMatchObject({ reason: "ISSUER_UNAVAILABLE" });
    await other.close();
  });

  test.each([
    ["damaged", { kty: "EC", crv: "P-256", x: "AAAA", y: "AAAA" }],
    ["incomplete", { kty: "EC", crv: "P-256" }],
    ["not even a number", { kty: "EC", crv: "P-256", x: 7, y: "%%" }],
  ])("or whose keys are %s is not the caller's fault either", async (_, jwk) => {
    issuer.published = [{ ...(jwk as object), kty: "EC", kid: "k1" }];
    await expect(verifier.verify(await issuer.sign())).rejects.toMatchObject({
      reason: "ISSUER_UNAVAILABLE",
      message: `the signing keys of issuer ${issuer.url} cannot be used`,
    });
  });

  test("or whose keys are too weak is not the caller's fault either", async () => {
    const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 1024 });
    issuer.published = [{ ...(await exportJWK(publicKey)), kid: "weak" }];
    verifier = verifierWith({ algorithms: ["RS256"] });
    const token = compact({ alg: "RS256", kid: "weak" }, claims(), (input) =>
      sign("sha256", Buffer.from(input), privateKey).toString("base64url"),
    );
    await expect(verifier.verify(token)).rejects.toMatchObject({
      reason: "ISSUER_UNAVAILABLE",
      message: `the signing keys of issuer ${issuer.url} cannot be used`,
    });
  });

  test("is not waited for beyond the time limit, nor beyond the server's end", async () => {
    issuer.respond = () => {};
    const attempt = verifier.verify(await issuer.sign());
    verifier.close();
    await expect(attempt).rejects.toMatchObject({ reason: "ISSUER_UNAVAILABLE" });
  });
});

describe("a verified token is remembered", () => {
  test("so that the next answer is the same object, and at once", async () => {
    const token = await issuer.sign();
    const first = verifier.verify(token);
    expect(first).toBeInstanceOf(Promise);
    const second = verifier.verify(token);
    expect(second).toBe(first);
    const caller = await first;
    expect(verifier.verify(token)).toBe(caller);
  });

  test("for five minutes and no longer", async () => {
    verifier = verifierWith({ keys: { kind: "inline", jwks: issuer.jwks } });
    const token = await issuer.sign();
    const caller = await verifier.verify(token);
    nowMs += 59_999;
    // Keys that are in use are loaded anew, which must not forget the token.
    for (let i = 0; i < 4; i++) {
      nowMs += 60_000;
      expect(verifier.verify(token)).toBe(caller);
      await new Promise(setImmediate);
    }
    expect(nowMs).toBe(Date.UTC(2026, 0, 1) + REMEMBERED_MS - 1);
    nowMs += 1;
    expect(verifier.verify(token)).toBeInstanceOf(Promise);
  });

  test("and refused at the same moment as if it were not", async () => {
    const exp = nowMs / 1000 + 60;
    const token = await issuer.sign({ claims: { exp } });
    const caller = await verifier.verify(token);
    nowMs = exp * 1000 + TOLERANCE_MS - 1;
    expect(verifier.verify(token)).toBe(caller);
    await expect(verifierWith().verify(token)).resolves.toBeDefined();
    nowMs += 1;
    await refused(token, "the access token has expired");
    await expect(verifierWith().verify(token)).rejects.toThrow("expired");
  });

  test.each([0.25, 0.5, 0.999])("also where it expires %d seconds into one", async (fraction) => {
    verifier = verifierWith({ clockToleranceMs: 300 });
    const exp = nowMs / 1000 + 60 + fraction;
    const token = await issuer.sign({ claims: { exp } });
    await verifier.verify(token);
    const answers = { remembering: [] as boolean[], fresh: [] as boolean[] };
    for (nowMs += 59_900; nowMs < Date.UTC(2026, 0, 1) + 63_000; nowMs += 50) {
      answers.remembering.push(await isAccepted(verifier, token));
      answers.fresh.push(await isAccepted(verifierWith({ clockToleranceMs: 300 }), token));
    }
    expect(answers.remembering).toEqual(answers.fresh);
    expect(new Set(answers.fresh)).toEqual(new Set([true, false]));
  });

  test("but not when it was refused", async () => {
    const nbf = nowMs / 1000 + 10;
    const token = await issuer.sign({ claims: { nbf } });
    await refused(token, "the access token is not valid yet");
    nowMs += 10_000;
    await expect(verifier.verify(token)).resolves.toBeDefined();
  });

  test("until its key is withdrawn, which is noticed within a minute of use", async () => {
    await issuer.addKey("k2");
    const [withdrawn, kept] = [await issuer.sign({ kid: "k1" }), await issuer.sign({ kid: "k2" })];
    const caller = await verifier.verify(withdrawn);
    await verifier.verify(kept);
    issuer.withdrawKey("k1");
    nowMs += 59_999;
    expect(verifier.verify(withdrawn)).toBe(caller);
    nowMs += 1;
    // This use has the keys loaded anew behind it.
    expect(verifier.verify(withdrawn)).toBe(caller);
    await expect.poll(() => verifier.verify(withdrawn) === caller).toBe(false);
    await refused(withdrawn, "the access token is signed with a key that its issuer does not have");
    await expect(verifier.verify(kept)).resolves.toBeDefined();
  });

  test("but not used when its key was withdrawn while nobody called", async () => {
    const token = await issuer.sign();
    await verifier.verify(token);
    await issuer.addKey("k2");
    issuer.withdrawKey("k1");
    nowMs += 120_000;
    await refused(token, "the access token is signed with a key that its issuer does not have");
  });

  test("and a new key of its issuer is found when first used", async () => {
    await verifier.verify(await issuer.sign());
    await issuer.addKey("k2");
    nowMs += 10_000;
    await expect(verifier.verify(await issuer.sign({ kid: "k2" }))).resolves.toBeDefined();
    expect(issuer.requests).toHaveLength(2);
  });

  test("for as long as its issuer is down, up to an hour since its keys were loaded", async () => {
    const token = await issuer.sign({ claims: { exp: nowMs / 1000 + 7_200 } });
    await verifier.verify(token);
    issuer.respond = (_, response) => response.writeHead(500).end();
    nowMs += 3_600_000 - 1;
    await expect(verifier.verify(token)).resolves.toBeDefined();
    await expect.poll(() => issuer.requests.length).toBe(2);
    nowMs += 1;
    await expect(verifier.verify(token)).rejects.toMatchObject({ reason: "ISSUER_UNAVAILABLE" });
  });

  test("while 10,000 others are not more recent, so that memory is bounded", async () => {
    await issuer.addKey("k2", "EdDSA");
    verifier = verifierWith({ algorithms: ["EdDSA"] });
    const first = await issuer.sign({ claims: { jti: "first" } });
    const caller = await verifier.verify(first);
    for (let i = 0; i < 9_999; i++)
      await verifier.verify(await issuer.sign({ claims: { jti: `${i}` } }));
    expect(verifier.verify(first)).toBe(caller);
    await verifier.verify(await issuer.sign({ claims: { jti: "last" } }));
    expect(verifier.verify(first)).toBeInstanceOf(Promise);
  });
});

test("when ten thousand verifications wait for an issuer, further ones are told to come later", async () => {
  issuer.respond = () => {};
  const token = await issuer.sign();
  const waiting = Array.from({ length: 10_000 }, (_, i) => verifier.verify(`${token}${i}`));
  const settled = Promise.allSettled(waiting);
  await expect(verifier.verify(token)).rejects.toMatchObject({ reason: "OVERLOADED" });
  expect(verifier.verify(`${token}0`)).toBe(waiting[0]);
  verifier.close();
  const reasons = (await settled).map(
    (result) => result.status === "rejected" && result.reason.reason,
  );
  expect(new Set(reasons)).toEqual(new Set(["ISSUER_UNAVAILABLE"]));
  await expect(verifier.verify(token)).rejects.toMatchObject({ reason: "ISSUER_UNAVAILABLE" });
});
