import { generateKeyPairSync } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import {
  ANOTHER_AUDIENCE,
  access,
  claims,
  compact,
  issuerFailed,
  REMEMBERED_MS,
  refused,
  START_MS,
  startIssuer,
  UNKNOWN_KEY,
  useAccess,
  verified,
  verifierWith,
  WRONG_ALGORITHM,
  WRONG_SIGNATURE,
} from "./access-token.test.fixture.js";
import { ALGORITHMS } from "./issuer.js";

useAccess();

describe("a token is accepted", () => {
  test("and says who calls and what they may do", async () => {
    expect(await verified({ claims: { scope: "sessions:read" } })).toEqual({
      issuer: access.issuer.url,
      subject: "billing",
      namespace: "",
      permissions: new Set(["sessions:read"]),
    });
  });

  test.each(ALGORITHMS)("signed with %s, if that is configured", async (algorithm) => {
    await access.issuer.addKey("k2", algorithm);
    access.verifier = verifierWith({ algorithms: ["ES256", algorithm] });
    await verified({ kid: "k2" });
  });

  test("without a key id, if any of the issuer's keys signed it", async () => {
    await access.issuer.addKey("k2");
    await access.issuer.addKey("k3");
    const header = { kid: undefined };
    for (const kid of ["k1", "k2", "k3"]) await verified({ kid, header });
    access.issuer.withdrawKey("k2");
    access.verifier = verifierWith({});
    await refused({ kid: "k2", header }, WRONG_SIGNATURE);
    await refused({ kid: "k3", header, claims: { aud: "other" } }, ANOTHER_AUDIENCE);
  });

  test("without a key id, if one of the issuer's keys is too weak", async () => {
    const weak = generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey;
    access.issuer.published = [weak.export({ format: "jwk" })];
    await access.issuer.addKey("k2", "RS256");
    access.verifier = verifierWith({ algorithms: ["RS256"] });
    await verified({ kid: "k2", header: { kid: undefined } });
  });

  test("without a key id, if the issuer has begun to use another key", async () => {
    const header = { kid: undefined };
    await verified({ header });
    await access.issuer.addKey("k2");
    await verified({ kid: "k2", header });
  });

  test("for one of several audiences, by one of several accepted", async () => {
    access.verifier = verifierWith({ audiences: ["a", "b"] });
    await verified({ claims: { aud: ["b", "c"] } });
    await refused({ claims: { aud: ["c"] } }, ANOTHER_AUDIENCE);
  });

  test("by a new key, after its file was replaced", async () => {
    const directory = await mkdtemp(join(tmpdir(), "sessiond-jwks-"));
    onTestFinished(() => rm(directory, { recursive: true }));
    const path = join(directory, "jwks.json");
    await writeFile(path, access.issuer.jwks);
    access.verifier = verifierWith({ keys: { kind: "file", path } });
    await verified();
    await access.issuer.addKey("k2");
    await writeFile(path, access.issuer.jwks);
    access.nowMs += 10_000;
    await verified({ kid: "k2" });
    expect(access.issuer.requests).toEqual([]);
  });

  test("by the rules of its own issuer", async () => {
    const other = await startIssuer("EdDSA");
    const keys = { kind: "discovery" } as const;
    access.verifier = verifierWith(
      { audiences: ["a"], keys },
      { issuer: other.url, audiences: ["b"], algorithms: ["EdDSA"], keys },
    );
    await verified({ claims: { aud: "a" } });
    await verified(await other.sign({ claims: { aud: "b" } }));
    await refused({ claims: { aud: "b" } }, ANOTHER_AUDIENCE);
    // The key ids are equal, so only the issuers' keys tell the difference.
    await refused(
      await other.sign({ claims: { iss: access.issuer.url, aud: "a" } }),
      WRONG_ALGORITHM,
    );
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

describe("it is not the caller's fault", () => {
  test("if the issuer fails, and the token is accepted once it answers", async () => {
    access.issuer.respond = (_, response) => response.writeHead(500).end();
    const token = await access.issuer.sign();
    await issuerFailed(token);
    access.issuer.respond = undefined;
    access.nowMs += 1_000;
    await expect.poll(() => verified(token).then(Boolean, () => false)).toBe(true);
  });

  test("if the issuer does not answer, and only its own callers wait, until the server closes", async () => {
    const other = await startIssuer();
    access.verifier = verifierWith({}, { issuer: other.url, keys: { kind: "discovery" } });
    access.issuer.respond = () => {};
    const stuck = issuerFailed({});
    await verified(await other.sign());
    access.verifier.close();
    await stuck;
  });

  test.each([
    ["damaged", "ES256", { crv: "P-256", x: "AAAA", y: "AAAA" }],
    ["incomplete", "ES256", { crv: "P-256" }],
    ["not even a number", "ES256", { crv: "P-256", x: 7, y: "%%" }],
    ["too weak", "RS256", weakKey()],
  ])("if the issuer's key is %s", async (_, alg, jwk) => {
    await access.issuer.addKey("good");
    access.issuer.published = [
      ...access.issuer.published,
      { kid: "bad", kty: "EC", ...(jwk as object) },
    ];
    access.verifier = verifierWith({ algorithms: [alg] });
    const token = compact({ alg, kid: "bad" }, claims(), () => "AAAA");
    await issuerFailed(token, "cannot be used");
  });

  function weakKey(): object {
    return generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey.export({ format: "jwk" });
  }
});

describe("a verified token is remembered", () => {
  test("so that the next answer is the same object, and at once", async () => {
    const token = await access.issuer.sign();
    const first = access.verifier.verify(token);
    expect(first).toBeInstanceOf(Promise);
    expect(access.verifier.verify(token)).toBe(first);
    const caller = await first;
    expect(access.verifier.verify(token)).toBe(caller);
  });

  test("for five minutes and no longer", async () => {
    access.verifier = verifierWith({ keys: { kind: "inline", jwks: access.issuer.jwks } });
    const token = await access.issuer.sign();
    const caller = await verified(token);
    access.nowMs += 59_999;
    // Keys in use are reloaded; the verifier must not forget the token then.
    for (let i = 0; i < 4; i++) {
      access.nowMs += 60_000;
      expect(access.verifier.verify(token)).toBe(caller);
      await new Promise(setImmediate);
    }
    expect(access.nowMs).toBe(START_MS + REMEMBERED_MS - 1);
    access.nowMs += 1;
    expect(access.verifier.verify(token)).toBeInstanceOf(Promise);
  });

  test.each([0, 0.25, 0.5, 0.999])(
    "and refused when others refuse it, %d s into a second",
    async (fraction) => {
      const isAccepted = () => verified(token).then(Boolean, () => false);
      const exp = access.nowMs / 1000 + 60 + fraction;
      const token = await access.issuer.sign({ claims: { exp } });
      const remembering = verifierWith({ clockToleranceMs: 300 });
      await remembering.verify(token);
      const answers = { remembering: [] as boolean[], fresh: [] as boolean[] };
      for (access.nowMs += 59_900; access.nowMs < START_MS + 63_000; access.nowMs += 50) {
        access.verifier = remembering;
        answers.remembering.push(await isAccepted());
        access.verifier = verifierWith({ clockToleranceMs: 300 });
        answers.fresh.push(await isAccepted());
      }
      expect(answers.remembering).toEqual(answers.fresh);
      expect(new Set(answers.fresh)).toEqual(new Set([true, false]));
    },
  );

  test("until its key is withdrawn, which is noticed within a minute of use", async () => {
    await access.issuer.addKey("k2");
    const [withdrawn, kept] = [
      await access.issuer.sign({ kid: "k1" }),
      await access.issuer.sign({ kid: "k2" }),
    ];
    const caller = await verified(withdrawn);
    await verified(kept);
    access.issuer.withdrawKey("k1");
    access.nowMs += 59_999;
    expect(access.verifier.verify(withdrawn)).toBe(caller);
    access.nowMs += 1;
    // This call starts a reload and does not wait for it.
    expect(access.verifier.verify(withdrawn)).toBe(caller);
    await expect.poll(() => access.verifier.verify(withdrawn) === caller).toBe(false);
    await refused(withdrawn, UNKNOWN_KEY);
    await verified(kept);
  });

  test("but not used if its key was withdrawn while nobody called", async () => {
    const token = await access.issuer.sign();
    await verified(token);
    await access.issuer.addKey("k2");
    access.issuer.withdrawKey("k1");
    access.nowMs += 120_000;
    await refused(token, UNKNOWN_KEY);
  });

  test("until 10,000 others are more recent, so that memory is bounded", async () => {
    const first = await access.issuer.sign({ claims: { jti: "first" } });
    const caller = await verified(first);
    const others = Array.from({ length: 9_999 }, (_, i) => verified({ claims: { jti: `${i}` } }));
    await Promise.all(others);
    expect(access.verifier.verify(first)).toBe(caller);
    await verified({ claims: { jti: "last" } });
    expect(access.verifier.verify(first)).toBeInstanceOf(Promise);
  });
});

test("while ten thousand verifications wait for an access.issuer, another is told to come later", async () => {
  access.issuer.respond = () => {};
  const token = await access.issuer.sign();
  const waiting = Array.from({ length: 10_000 }, (_, i) => access.verifier.verify(`${token}${i}`));
  const settled = Promise.allSettled(waiting);
  await expect(access.verifier.verify(token)).rejects.toMatchObject({ reason: "OVERLOADED" });
  expect(access.verifier.verify(`${token}0`)).toBe(waiting[0]);
  access.verifier.close();
  const reasons = (await settled).map(
    (result) => result.status === "rejected" && result.reason.reason,
  );
  expect(new Set(reasons)).toEqual(new Set(["ISSUER_UNAVAILABLE"]));
  await issuerFailed(token);
});
