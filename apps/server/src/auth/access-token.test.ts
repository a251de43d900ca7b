import { createHmac, createPublicKey, generateKeyPairSync, sign as signBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SessiondError } from "@sessiond/core";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { TestIssuer, type TestToken } from "../testing/test-issuer.js";
import { type AccessTokenVerifier, createAccessTokenVerifier } from "./access-token.js";
import type { Caller } from "./caller.js";
import { ALGORITHMS, type IssuerConfig } from "./issuer.js";

const START_MS = Date.UTC(2026, 0, 1);
const REMEMBERED_MS = 5 * 60_000;
const TOLERANCE_MS = 5_000;
const TOKEN_TTL_MS = 600_000;
const MAX_TOKEN_LENGTH = 8 * 1024;
const ROLES = new Map([
  ["support", ["sessions:read"]],
  ["admin", ["sessions:read", "sessions:delete"]],
]);

const ANOTHER_AUDIENCE = "the access token is for another audience";
const ANOTHER_TYPE = "the token is of another type than an access token";
const EXPIRED = "the access token has expired";
const MALFORMED = "the access token is malformed: expected a signed JWT";
const NOT_YET = "the access token is not valid yet";
const UNKNOWN_KEY = "the access token is signed with a key that its issuer does not have";
const WRONG_ALGORITHM = "the access token is signed with an algorithm that is not accepted";
const WRONG_SIGNATURE = "the access token's signature is wrong";

let nowMs = 0;
let issuer: TestIssuer;
let verifier: AccessTokenVerifier;

const now = () => nowMs;

beforeEach(async () => {
  nowMs = START_MS;
  issuer = await startIssuer();
  verifier = verifierWith({});
});

/** Has the key `k1`. */
async function startIssuer(algorithm?: string): Promise<TestIssuer> {
  const started = await TestIssuer.start(now);
  onTestFinished(() => started.close());
  await started.addKey("k1", algorithm);
  return started;
}

/** Accepts tokens of `issuer` unless changed. */
function verifierWith(...changes: readonly Partial<IssuerConfig>[]): AccessTokenVerifier {
  const base = {
    issuer: issuer.url,
    audiences: ["sessiond"],
    algorithms: ["ES256"],
    keys: { kind: "url", url: issuer.jwksUrl },
    clockToleranceMs: TOLERANCE_MS,
  } as const;
  const issuers = changes.map((change) => ({ ...base, ...change }));
  const made = createAccessTokenVerifier({ issuers, roles: ROLES }, { now, timeoutMs: 2_000 });
  onTestFinished(() => made.close());
  return made;
}

/** Verifies a token, which `issuer` signs unless it is complete. */
async function verified(token: string | TestToken = {}): Promise<Caller> {
  return verifier.verify(typeof token === "string" ? token : await issuer.sign(token));
}

/** Expects a refusal with this message, which must not repeat the token. */
async function refused(token: string | TestToken, message: string): Promise<void> {
  const text = typeof token === "string" ? token : await issuer.sign(token);
  const error: unknown = await verified(text).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(SessiondError);
  expect(error).toMatchObject({ reason: "UNAUTHENTICATED", message });
  for (const part of text.split(".").filter((p) => p.length > 8)) {
    expect(message).not.toContain(part);
  }
}

/** Expects that the issuer is at fault. */
async function issuerFailed(token: string | TestToken, how = "are unavailable"): Promise<void> {
  await expect(verified(token)).rejects.toMatchObject({
    reason: "ISSUER_UNAVAILABLE",
    message: `the signing keys of issuer ${issuer.url} ${how}`,
  });
}

/** A token made by hand, because no library would sign it. */
function compact(header: object, content: string, sign: (input: string) => string): string {
  const input = [JSON.stringify(header), content].map(base64url).join(".");
  return `${input}.${sign(input)}`;
}

function base64url(text: string): string {
  return Buffer.from(text).toString("base64url");
}

function claims(): string {
  const exp = (nowMs + TOKEN_TTL_MS) / 1000;
  return JSON.stringify({ iss: issuer.url, aud: "sessiond", sub: "billing", exp });
}

describe("a token is accepted", () => {
  test("and says who calls and what they may do", async () => {
    expect(await verified({ claims: { scope: "sessions:read" } })).toEqual({
      issuer: issuer.url,
      subject: "billing",
      namespace: "",
      permissions: new Set(["sessions:read"]),
    });
  });

  test.each(ALGORITHMS)("signed with %s, if that is configured", async (algorithm) => {
    await issuer.addKey("k2", algorithm);
    verifier = verifierWith({ algorithms: ["ES256", algorithm] });
    await verified({ kid: "k2" });
  });

  test("without a key id, if any of the issuer's keys signed it", async () => {
    await issuer.addKey("k2");
    await issuer.addKey("k3");
    const header = { kid: undefined };
    for (const kid of ["k1", "k2", "k3"]) await verified({ kid, header });
    issuer.withdrawKey("k2");
    verifier = verifierWith({});
    await refused({ kid: "k2", header }, WRONG_SIGNATURE);
    await refused({ kid: "k3", header, claims: { aud: "other" } }, ANOTHER_AUDIENCE);
  });

  test("for one of several audiences, by one of several accepted", async () => {
    verifier = verifierWith({ audiences: ["a", "b"] });
    await verified({ claims: { aud: ["b", "c"] } });
    await refused({ claims: { aud: ["c"] } }, ANOTHER_AUDIENCE);
  });

  test("by a new key, after its file was replaced", async () => {
    const directory = await mkdtemp(join(tmpdir(), "sessiond-jwks-"));
    onTestFinished(() => rm(directory, { recursive: true }));
    const path = join(directory, "jwks.json");
    await writeFile(path, issuer.jwks);
    verifier = verifierWith({ keys: { kind: "file", path } });
    await verified();
    await issuer.addKey("k2");
    await writeFile(path, issuer.jwks);
    nowMs += 10_000;
    await verified({ kid: "k2" });
    expect(issuer.requests).toEqual([]);
  });

  test("by the rules of its own issuer", async () => {
    const other = await startIssuer("EdDSA");
    const keys = { kind: "discovery" } as const;
    verifier = verifierWith(
      { audiences: ["a"], keys },
      { issuer: other.url, audiences: ["b"], algorithms: ["EdDSA"], keys },
    );
    await verified({ claims: { aud: "a" } });
    await verified(await other.sign({ claims: { aud: "b" } }));
    await refused({ claims: { aud: "b" } }, ANOTHER_AUDIENCE);
    // The key ids are equal, so only the issuers' keys tell the difference.
    await refused(await other.sign({ claims: { iss: issuer.url, aud: "a" } }), WRONG_ALGORITHM);
  });
});

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
  const { permissions } = await verified({ claims: granting });
  expect([...permissions].sort()).toEqual(expected);
});

describe("a token is refused", () => {
  test("if it is missing", () => refused("", "an access token is missing"));

  test("if its issuer is unknown; the refusal says which was seen and which are known", async () => {
    const unknown = 'the access token is from an unknown issuer: its claim "iss" is';
    const known = `known issuers: "${issuer.url}"`;
    await refused({ claims: { iss: `${issuer.url}/` } }, `${unknown} "${issuer.url}/", ${known}`);
    for (const iss of [undefined, [issuer.url], null]) {
      await refused({ claims: { iss } }, `${unknown} no text, ${known}`);
    }
    expect(issuer.requests).toEqual([]);
  });

  test("if its issuer is unknown; the refusal is short and has no control characters", async () => {
    const names = Array.from(
      { length: 50 },
      (_, i) => `https://${i}.example.com/${"a".repeat(200)}`,
    );
    verifier = verifierWith(...names.map((name) => ({ issuer: name })));
    const token = await issuer.sign({ claims: { iss: `\n\u001b[31m"${"é".repeat(1_000)}` } });
    const message = await verified(token).then(String, (error: Error) => error.message);
    expect(message).toMatch(
      /"iss" is "\\n\\u001b\[31m\\"é+…", known issuers: "https:\/\/0\..* and 47 more$/,
    );
    expect(message.length).toBeLessThan(700);
  });

  test.each(["other", [], "Sessiond"].map((aud) => [aud]))("if its audience is %j", (aud) =>
    refused({ claims: { aud } }, ANOTHER_AUDIENCE),
  );

  test.each(["exp", "aud", "sub"])("if it has no %s", (claim) =>
    refused({ claims: { [claim]: undefined } }, `the access token has no claim "${claim}"`),
  );

  test.each([
    ["sub", ""],
    ["sub", 7],
    ["sub", null],
    ["exp", "soon"],
    ["nbf", "soon"],
    ["iat", "soon"],
  ])("if its %s is %j", (claim, value) =>
    refused({ claims: { [claim]: value } }, `the access token's claim "${claim}" is malformed`),
  );

  test("if it never expires", async () => {
    await verified({ claims: { exp: 1e308 } });
    // JSON has no infinity, but 1e999 is read as one. jose would not write it.
    const { privateKey, publicKey } = generateKeyPairSync("ed25519");
    issuer.published = [{ ...publicKey.export({ format: "jwk" }), kty: "OKP" }];
    verifier = verifierWith({ algorithms: ["EdDSA"] });
    const infinite = claims().replace(/"exp":\d+/, '"exp":1e999');
    const token = compact({ alg: "EdDSA" }, infinite, (input) =>
      signBytes(null, Buffer.from(input), privateKey).toString("base64url"),
    );
    await refused(token, `the access token's claim "exp" is malformed`);
  });

  test("once it has expired and the tolerance is over, though it is remembered", async () => {
    const token = await issuer.sign();
    nowMs += TOKEN_TTL_MS + TOLERANCE_MS - 1;
    const caller = await verified(token);
    expect(verifier.verify(token)).toBe(caller);
    nowMs += 1;
    await refused(token, EXPIRED);
    await refused(token, EXPIRED);
  });

  test("until it is valid, give or take the tolerance, and its refusal is not remembered", async () => {
    const token = await issuer.sign({ claims: { nbf: nowMs / 1000 + 60 } });
    nowMs += 60_000 - TOLERANCE_MS - 1;
    await refused(token, NOT_YET);
    nowMs += 1;
    await verified(token);
  });

  test.each(["logout+jwt", "dpop+jwt", "application/secevent+jwt", "at", "", "id_token", 7, null])(
    "if its type is %j",
    (typ) => refused({ header: { typ } }, ANOTHER_TYPE),
  );

  test.each([undefined, "JWT", "jwt", "at+jwt", "application/at+jwt", "AT+JWT"])(
    "but not if its type is %s",
    async (typ) => void (await verified({ header: { typ } })),
  );

  test("if its type is not the configured one", async () => {
    verifier = verifierWith({ typ: "at+jwt" });
    await verified({ header: { typ: "application/at+jwt" } });
    for (const typ of ["JWT", undefined]) await refused({ header: { typ } }, ANOTHER_TYPE);
  });

  test("if nobody signed it", async () => {
    for (const alg of ["none", "None", "NONE"]) {
      for (const header of [{ kid: "k1" }, { typ: "JWT" }]) {
        const unsigned = compact({ alg, ...header }, claims(), () => "");
        await refused(unsigned, WRONG_ALGORITHM);
        await refused(`${unsigned}AAAA`, WRONG_ALGORITHM);
      }
    }
    expect(issuer.requests).toHaveLength(1);
  });

  test("if the public key was used as a shared secret", async () => {
    const [jwk = {}] = issuer.published;
    const key = createPublicKey({ key: jwk, format: "jwk" });
    const pem = key.export({ type: "spki", format: "pem" });
    const der = key.export({ type: "spki", format: "der" });
    for (const secret of [pem, der, JSON.stringify(jwk)]) {
      const token = compact({ alg: "HS256", kid: "k1", typ: "JWT" }, claims(), (input) =>
        createHmac("sha256", secret).update(input).digest("base64url"),
      );
      await refused(token, WRONG_ALGORITHM);
    }
  });

  test("if its algorithm is right for its key, but not configured", async () => {
    await issuer.addKey("k2", "ES384");
    await refused({ kid: "k2" }, WRONG_ALGORITHM);
  });

  test("if it brings its own key, and nobody is asked for it", async () => {
    const stranger = await startIssuer();
    const header = { jwk: stranger.published[0], jku: stranger.jwksUrl };
    await refused(await stranger.sign({ claims: { iss: issuer.url }, header }), WRONG_SIGNATURE);
    expect(stranger.requests).toEqual([]);
  });

  test("if one character of its signature or content was changed, without a load of keys", async () => {
    const token = await issuer.sign({ claims: { scope: "sessions:read" } });
    await verified(token);
    nowMs += 10_000;
    const [header = "", payload = "", signature = ""] = token.split(".");
    for (let i = 0; i < signature.length - 1; i += 5) {
      const flipped = signature[i] === "A" ? "B" : "A";
      const forged = signature.slice(0, i) + flipped + signature.slice(i + 1);
      await refused(`${header}.${payload}.${forged}`, WRONG_SIGNATURE);
    }
    const widened = Buffer.from(payload, "base64url").toString().replace("read", "full");
    await refused(`${header}.${base64url(widened)}.${signature}`, WRONG_SIGNATURE);
    expect(issuer.requests).toHaveLength(1);
  });

  test("unread, if it is too long by one character", async () => {
    const { length } = await issuer.sign({ claims: { pad: "" } });
    const pad = "x".repeat(Math.floor(((MAX_TOKEN_LENGTH - length) * 3) / 4) - 2);
    const fitting = await issuer.sign({ claims: { pad } });
    expect(fitting.length).toBeGreaterThan(MAX_TOKEN_LENGTH - 8);
    await verified(fitting);
    await refused("x".repeat(MAX_TOKEN_LENGTH), MALFORMED);
    const message = "the access token has more than 8192 characters";
    await refused("x".repeat(MAX_TOKEN_LENGTH + 1), message);
  });

  test("if its key is unknown, with at most one load of keys in ten seconds", async () => {
    for (const loads of [1, 2]) {
      for (let i = 0; i < 5; i++) {
        await refused({ header: { kid: `unknown-${loads}-${i}` } }, UNKNOWN_KEY);
      }
      expect(issuer.requests).toHaveLength(loads);
      nowMs += 10_000;
    }
  });

  const GARBAGE =
    "garbage .. a.b.c a.b.c.d.e eyJhbGciOiJFUzI1NiJ9.. \u0000\u00ff %%%.%%%.%%% .bnVsbA. e30.W10.e30 e30.bnVsbA.e30";
  test.each(GARBAGE.split(" "))("if it is garbage such as %j", (token) =>
    refused(token, MALFORMED),
  );

  test("as the caller's fault, whatever was changed at random", async () => {
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
      await expect(verified(mangled), mangled).rejects.toMatchObject({ reason: "UNAUTHENTICATED" });
    }
  });
});

describe("it is not the caller's fault", () => {
  test("if the issuer fails, and the token is accepted once it answers", async () => {
    issuer.respond = (_, response) => response.writeHead(500).end();
    const token = await issuer.sign();
    await issuerFailed(token);
    issuer.respond = undefined;
    nowMs += 1_000;
    await verified(token);
  });

  test("if the issuer does not answer, and only its own callers wait, until the server closes", async () => {
    const other = await startIssuer();
    verifier = verifierWith({}, { issuer: other.url, keys: { kind: "discovery" } });
    issuer.respond = () => {};
    const stuck = issuerFailed({});
    await verified(await other.sign());
    verifier.close();
    await stuck;
  });

  test.each([
    ["damaged", "ES256", { crv: "P-256", x: "AAAA", y: "AAAA" }],
    ["incomplete", "ES256", { crv: "P-256" }],
    ["not even a number", "ES256", { crv: "P-256", x: 7, y: "%%" }],
    ["too weak", "RS256", weakKey()],
  ])("if the issuer's key is %s", async (_, alg, jwk) => {
    issuer.published = [{ kid: "k1", kty: "EC", ...(jwk as object) }];
    verifier = verifierWith({ algorithms: [alg] });
    const token = compact({ alg, kid: "k1" }, claims(), () => "AAAA");
    await issuerFailed(token, "cannot be used");
  });

  function weakKey(): object {
    return generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey.export({ format: "jwk" });
  }
});

describe("a verified token is remembered", () => {
  test("so that the next answer is the same object, and at once", async () => {
    const token = await issuer.sign();
    const first = verifier.verify(token);
    expect(first).toBeInstanceOf(Promise);
    expect(verifier.verify(token)).toBe(first);
    const caller = await first;
    expect(verifier.verify(token)).toBe(caller);
  });

  test("for five minutes and no longer", async () => {
    verifier = verifierWith({ keys: { kind: "inline", jwks: issuer.jwks } });
    const token = await issuer.sign();
    const caller = await verified(token);
    nowMs += 59_999;
    // Keys in use are reloaded; the verifier must not forget the token then.
    for (let i = 0; i < 4; i++) {
      nowMs += 60_000;
      expect(verifier.verify(token)).toBe(caller);
      await new Promise(setImmediate);
    }
    expect(nowMs).toBe(START_MS + REMEMBERED_MS - 1);
    nowMs += 1;
    expect(verifier.verify(token)).toBeInstanceOf(Promise);
  });

  test.each([0, 0.25, 0.5, 0.999])(
    "and refused when others refuse it, %d s into a second",
    async (fraction) => {
      const isAccepted = () => verified(token).then(Boolean, () => false);
      const exp = nowMs / 1000 + 60 + fraction;
      const token = await issuer.sign({ claims: { exp } });
      const remembering = verifierWith({ clockToleranceMs: 300 });
      await remembering.verify(token);
      const answers = { remembering: [] as boolean[], fresh: [] as boolean[] };
      for (nowMs += 59_900; nowMs < START_MS + 63_000; nowMs += 50) {
        verifier = remembering;
        answers.remembering.push(await isAccepted());
        verifier = verifierWith({ clockToleranceMs: 300 });
        answers.fresh.push(await isAccepted());
      }
      expect(answers.remembering).toEqual(answers.fresh);
      expect(new Set(answers.fresh)).toEqual(new Set([true, false]));
    },
  );

  test("until its key is withdrawn, which is noticed within a minute of use", async () => {
    await issuer.addKey("k2");
    const [withdrawn, kept] = [await issuer.sign({ kid: "k1" }), await issuer.sign({ kid: "k2" })];
    const caller = await verified(withdrawn);
    await verified(kept);
    issuer.withdrawKey("k1");
    nowMs += 59_999;
    expect(verifier.verify(withdrawn)).toBe(caller);
    nowMs += 1;
    // This call starts a reload and does not wait for it.
    expect(verifier.verify(withdrawn)).toBe(caller);
    await expect.poll(() => verifier.verify(withdrawn) === caller).toBe(false);
    await refused(withdrawn, UNKNOWN_KEY);
    await verified(kept);
  });

  test("but not used if its key was withdrawn while nobody called", async () => {
    const token = await issuer.sign();
    await verified(token);
    await issuer.addKey("k2");
    issuer.withdrawKey("k1");
    nowMs += 120_000;
    await refused(token, UNKNOWN_KEY);
  });

  test("until 10,000 others are more recent, so that memory is bounded", async () => {
    const first = await issuer.sign({ claims: { jti: "first" } });
    const caller = await verified(first);
    const others = Array.from({ length: 9_999 }, (_, i) => verified({ claims: { jti: `${i}` } }));
    await Promise.all(others);
    expect(verifier.verify(first)).toBe(caller);
    await verified({ claims: { jti: "last" } });
    expect(verifier.verify(first)).toBeInstanceOf(Promise);
  });
});

test("while ten thousand verifications wait for an issuer, another is told to come later", async () => {
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
  await issuerFailed(token);
});
