import { createHmac, createPublicKey, generateKeyPairSync, sign as signBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import {
  ANOTHER_AUDIENCE,
  ANOTHER_TYPE,
  access,
  base64url,
  claims,
  compact,
  EXPIRED,
  MALFORMED,
  MAX_TOKEN_LENGTH,
  NOT_YET,
  refused,
  startIssuer,
  TOKEN_TTL_MS,
  TOLERANCE_MS,
  UNKNOWN_KEY,
  useAccess,
  verified,
  verifierWith,
  WRONG_ALGORITHM,
  WRONG_SIGNATURE,
} from "./access-token.test.fixture.js";

useAccess();

describe("a token is refused", () => {
  test("if it is missing", () => refused("", "an access token is missing"));

  test("if its issuer is unknown; the refusal says which was seen and which are known", async () => {
    const unknown = 'the access token is from an unknown issuer: its claim "iss" is';
    const known = `known issuers: "${access.issuer.url}"`;
    await refused(
      { claims: { iss: `${access.issuer.url}/` } },
      `${unknown} "${access.issuer.url}/", ${known}`,
    );
    for (const iss of [undefined, [access.issuer.url], null]) {
      await refused({ claims: { iss } }, `${unknown} no text, ${known}`);
    }
    expect(access.issuer.requests).toEqual([]);
  });

  test("if its issuer is unknown; the refusal is short and has no control characters", async () => {
    const names = Array.from(
      { length: 50 },
      (_, i) => `https://${i}.example.com/${"a".repeat(200)}`,
    );
    access.verifier = verifierWith(...names.map((name) => ({ issuer: name })));
    const token = await access.issuer.sign({
      claims: { iss: `\n\u001b[31m"${"é".repeat(1_000)}` },
    });
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
    access.issuer.published = [{ ...publicKey.export({ format: "jwk" }), kty: "OKP" }];
    access.verifier = verifierWith({ algorithms: ["EdDSA"] });
    const infinite = claims().replace(/"exp":\d+/, '"exp":1e999');
    const token = compact({ alg: "EdDSA" }, infinite, (input) =>
      signBytes(null, Buffer.from(input), privateKey).toString("base64url"),
    );
    await refused(token, `the access token's claim "exp" is malformed`);
  });

  test("once it has expired and the tolerance is over, though it is remembered", async () => {
    const token = await access.issuer.sign();
    access.nowMs += TOKEN_TTL_MS + TOLERANCE_MS - 1;
    const caller = await verified(token);
    expect(access.verifier.verify(token)).toBe(caller);
    access.nowMs += 1;
    await refused(token, EXPIRED);
    await refused(token, EXPIRED);
  });

  test("until it is valid, give or take the tolerance, and its refusal is not remembered", async () => {
    const token = await access.issuer.sign({ claims: { nbf: access.nowMs / 1000 + 60 } });
    access.nowMs += 60_000 - TOLERANCE_MS - 1;
    await refused(token, NOT_YET);
    access.nowMs += 1;
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
    access.verifier = verifierWith({ typ: "at+jwt" });
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
    expect(access.issuer.requests).toHaveLength(1);
  });

  test("if the public key was used as a shared secret", async () => {
    const [jwk = {}] = access.issuer.published;
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
    await access.issuer.addKey("k2", "ES384");
    await refused({ kid: "k2" }, WRONG_ALGORITHM);
  });

  test("if it brings its own key, and nobody is asked for it", async () => {
    const stranger = await startIssuer();
    const header = { jwk: stranger.published[0], jku: stranger.jwksUrl };
    await refused(
      await stranger.sign({ claims: { iss: access.issuer.url }, header }),
      WRONG_SIGNATURE,
    );
    expect(stranger.requests).toEqual([]);
  });

  test("if one character of its signature or content was changed, without a load of keys", async () => {
    const token = await access.issuer.sign({ claims: { scope: "sessions:read" } });
    await verified(token);
    access.nowMs += 10_000;
    const [header = "", payload = "", signature = ""] = token.split(".");
    for (let i = 0; i < signature.length - 1; i += 5) {
      const flipped = signature[i] === "A" ? "B" : "A";
      const forged = signature.slice(0, i) + flipped + signature.slice(i + 1);
      await refused(`${header}.${payload}.${forged}`, WRONG_SIGNATURE);
    }
    const widened = Buffer.from(payload, "base64url").toString().replace("read", "full");
    await refused(`${header}.${base64url(widened)}.${signature}`, WRONG_SIGNATURE);
    expect(access.issuer.requests).toHaveLength(1);
  });

  test("unread, if it is too long by one character", async () => {
    const { length } = await access.issuer.sign({ claims: { pad: "" } });
    const pad = "x".repeat(Math.floor(((MAX_TOKEN_LENGTH - length) * 3) / 4) - 2);
    const fitting = await access.issuer.sign({ claims: { pad } });
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
      // The first load was for the first token of all.
      expect(access.issuer.requests).toHaveLength(1 + loads);
      access.nowMs += 10_000;
    }
  });

  const GARBAGE =
    "garbage .. a.b.c a.b.c.d.e eyJhbGciOiJFUzI1NiJ9.. \u0000\u00ff %%%.%%%.%%% .bnVsbA. e30.W10.e30 e30.bnVsbA.e30";
  test.each(GARBAGE.split(" "))("if it is garbage such as %j", (token) =>
    refused(token, MALFORMED),
  );

  test("as the caller's fault, whatever was changed at random", async () => {
    const token = await access.issuer.sign({ header: { typ: "JWT" } });
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
