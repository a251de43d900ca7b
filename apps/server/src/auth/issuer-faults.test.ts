import { generateKeyPairSync, sign } from "node:crypto";
import {
  afterAll,
  beforeAll,
  beforeEach,
  describe,
  expect,
  onTestFinished,
  test,
  vi,
} from "vitest";
import { OidcProcess } from "../testing/oidc-process.js";
import { within } from "../testing/within.js";
import { type AccessTokenVerifier, createAccessTokenVerifier } from "./access-token.js";
import type { IssuerConfig } from "./issuer.js";

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
/** Well below the two seconds in which calls are answered. */
const SOON_MS = 1_500;
const AT_ONCE_MS = 200;

let provider: OidcProcess;
let passedMs: number;
let verifier: AccessTokenVerifier;

beforeAll(async () => {
  provider = await OidcProcess.start();
});
afterAll(() => provider[Symbol.asyncDispose]());

beforeEach(async () => {
  passedMs = 0;
  verifier = verifierOf({ issuer: provider.url, keys: { kind: "discovery" } });
  await provider.fail(undefined);
});

function verifierOf(config: Pick<IssuerConfig, "issuer" | "keys">): AccessTokenVerifier {
  const rules = { audiences: ["sessiond"], algorithms: ["RS256"], clockToleranceMs: 0 };
  const auth = { issuers: [{ ...rules, ...config }], roles: new Map() };
  const made = createAccessTokenVerifier(auth, { now: () => Date.now() + passedMs });
  onTestFinished(() => made.close());
  return made;
}

/** "accepted", or the reason of the refusal. */
async function outcome(token: string): Promise<string> {
  try {
    await verifier.verify(token);
    return "accepted";
  } catch (error) {
    return (error as { reason: string }).reason;
  }
}

/** Lets a load in the background end. */
async function untilLoaded(loads: number): Promise<void> {
  await expect.poll(async () => (await provider.served()).loads).toBeGreaterThanOrEqual(loads);
  await new Promise((resolve) => setTimeout(resolve, 50));
}

test("while an issuer changes its keys again and again, no token is refused", async () => {
  await provider.login().then(outcome);
  for (let round = 1; round <= 3; round++) {
    const old = await provider.login();
    await provider.rotate(`rotated-${round}`);
    const tokens = [
      await provider.login(),
      old,
      ...(await Promise.all([1, 2, 3].map(() => provider.login()))),
    ];
    expect(await Promise.all(tokens.map(outcome))).toEqual(tokens.map(() => "accepted"));
    passedMs += 10_000;
  }
});

test("a withdrawn key is accepted for two minutes at most", async () => {
  const token = await provider.login();
  expect(await outcome(token)).toBe("accepted");
  await provider.rotate("after-a-leak", { withdrawOld: true });
  passedMs += 2 * MINUTE_MS;
  expect(await outcome(token)).toBe("UNAUTHENTICATED");
  expect(await outcome(await provider.login())).toBe("accepted");
});

test("through an outage, known keys serve for a day, and then calls fail at once as UNAVAILABLE", async () => {
  const [seen, unseen, last] = await Promise.all([1, 2, 3].map(() => provider.login()));
  expect(await outcome(seen as string)).toBe("accepted");
  await provider.kill();
  passedMs += DAY_MS - MINUTE_MS;
  expect(await outcome(seen as string)).toBe("accepted");
  expect(await outcome(unseen as string)).toBe("accepted");
  passedMs += MINUTE_MS;
  expect(await within(AT_ONCE_MS, outcome(seen as string))).toBe("ISSUER_UNAVAILABLE");
  await provider.restart();
  passedMs += MINUTE_MS;
  await expect.poll(() => outcome(last as string)).toBe("accepted");
});

test.each(["empty", "garbage", "damaged", "failing"] as const)(
  "keys stay good while their issuer's answers are %s",
  async (fault) => {
    const [seen, unseen] = [await provider.login(), await provider.login()];
    expect(await outcome(seen)).toBe("accepted");
    const { loads } = await provider.served();
    await provider.fail(fault);
    passedMs += MINUTE_MS;
    expect(await outcome(seen)).toBe("accepted");
    await untilLoaded(loads + 1);
    expect([await outcome(seen), await outcome(unseen)]).toEqual(["accepted", "accepted"]);
  },
);

describe("without keys", () => {
  test("only the first calls wait for an issuer that hangs, and not for long", async () => {
    await provider.fail("hanging");
    const [token, another] = [await provider.login(), await provider.login()];
    expect(await within(SOON_MS, outcome(token))).toBe("ISSUER_UNAVAILABLE");
    expect(await within(AT_ONCE_MS, outcome(another))).toBe("ISSUER_UNAVAILABLE");
  });

  test("calls wait for an issuer that is slow", async () => {
    await provider.fail("slow");
    expect(await outcome(await provider.login())).toBe("accepted");
  });

  test("an answer without an end is read for 256 KiB", async () => {
    await provider.fail("endless");
    expect(await within(SOON_MS, outcome(await provider.login()))).toBe("ISSUER_UNAVAILABLE");
    const { bytes } = await provider.served();
    // More than we read is on the way, in the buffers of both systems.
    expect(bytes).toBeLessThan(16 * 1024 * 1024);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect((await provider.served()).bytes).toBe(bytes);
  });
});

test("a flood of unknown key ids causes one load, and others are served meanwhile", async () => {
  const good = await provider.login();
  expect(await outcome(good)).toBe("accepted");
  const { loads } = await provider.served();
  const [, payload] = good.split(".");
  const forged = Array.from({ length: 2_000 }, (_, i) => {
    const header = JSON.stringify({ alg: "RS256", kid: `unknown-${i}` });
    return `${Buffer.from(header).toString("base64url")}.${payload}.AAAA`;
  });
  const refusals = Promise.all(forged.map(outcome));
  expect(await within(SOON_MS, provider.login().then(outcome))).toBe("accepted");
  expect(new Set(await refusals)).toEqual(new Set(["UNAUTHENTICATED"]));
  expect((await provider.served()).loads).toBe(loads + 1);
});

describe("a token costs few signature checks", () => {
  function claims(): string {
    const exp = Math.floor(Date.now() / 1000) + 600;
    return JSON.stringify({ iss: "https://issuer.test", aud: "sessiond", sub: "a", exp });
  }

  function compact(header: object, signature: (input: string) => Buffer): string {
    const text = [JSON.stringify(header), claims()]
      .map((part) => Buffer.from(part).toString("base64url"))
      .join(".");
    return `${text}.${signature(text).toString("base64url")}`;
  }

  async function checksFor(token: string): Promise<number> {
    const verify = vi.spyOn(crypto.subtle, "verify");
    onTestFinished(() => verify.mockRestore());
    expect(await outcome(token)).not.toBe("accepted");
    return verify.mock.calls.length;
  }

  function inline(keys: readonly object[]): void {
    const jwks = JSON.stringify({ keys });
    verifier = verifierOf({ issuer: "https://issuer.test", keys: { kind: "inline", jwks } });
  }

  test("if it names no key and its issuer has 250", async () => {
    const { publicKey } = generateKeyPairSync("rsa", { modulusLength: 2_048 });
    inline(Array.from({ length: 250 }, () => publicKey.export({ format: "jwk" })));
    expect(await checksFor(compact({ alg: "RS256" }, () => Buffer.alloc(256)))).toBe(0);
  });

  test("if it names no key and its issuer has four", async () => {
    const { publicKey } = generateKeyPairSync("rsa", { modulusLength: 2_048 });
    inline(Array.from({ length: 4 }, () => publicKey.export({ format: "jwk" })));
    expect(await checksFor(compact({ alg: "RS256" }, () => Buffer.alloc(256)))).toBe(4);
  });

  test("if it is signed with an RSA key of 1024 bits", async () => {
    const weak = generateKeyPairSync("rsa", { modulusLength: 1_024 });
    const good = generateKeyPairSync("rsa", { modulusLength: 2_048 });
    inline([
      { ...weak.publicKey.export({ format: "jwk" }), kid: "weak" },
      { ...good.publicKey.export({ format: "jwk" }), kid: "good" },
    ]);
    const signature = (text: string) => sign("sha256", Buffer.from(text), weak.privateKey);
    expect(await checksFor(compact({ alg: "RS256", kid: "weak" }, signature))).toBe(0);
  });
});
