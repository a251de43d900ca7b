import { SessiondError } from "@sessiond/core";
import { beforeEach, expect, onTestFinished } from "vitest";
import { TestIssuer, type TestToken } from "../testing/test-issuer.js";
import { type AccessTokenVerifier, createAccessTokenVerifier } from "./access-token.js";
import type { Caller } from "./caller.js";
import type { IssuerConfig } from "./issuer.js";

export const START_MS = Date.UTC(2026, 0, 1);
export const REMEMBERED_MS = 5 * 60_000;
export const TOLERANCE_MS = 5_000;
export const TOKEN_TTL_MS = 600_000;
export const MAX_TOKEN_LENGTH = 8 * 1024;
export const ROLES = new Map([
  ["support", ["sessions:read"]],
  ["admin", ["sessions:read", "sessions:delete"]],
]);

export const ANOTHER_AUDIENCE = "the access token is for another audience";
export const ANOTHER_TYPE = "the token is of another type than an access token";
export const EXPIRED = "the access token has expired";
export const MALFORMED = "the access token is malformed: expected a signed JWT";
export const NOT_YET = "the access token is not valid yet";
export const UNKNOWN_KEY = "the access token is signed with a key that its issuer does not have";
export const WRONG_ALGORITHM = "the access token is signed with an algorithm that is not accepted";
export const WRONG_SIGNATURE = "the access token's signature is wrong";

/** What a test verifies with, and at what time. New for each test, and the test may replace it. */
export const access = {} as { nowMs: number; issuer: TestIssuer; verifier: AccessTokenVerifier };

const now = () => access.nowMs;

/** Call once in a test file. */
export function useAccess(): void {
  beforeEach(async () => {
    access.nowMs = START_MS;
    access.issuer = await startIssuer();
    access.verifier = verifierWith({});
  });
}

/** Has the key `k1`. */
export async function startIssuer(algorithm?: string): Promise<TestIssuer> {
  const started = await TestIssuer.start(now);
  onTestFinished(() => started.close());
  await started.addKey("k1", algorithm);
  return started;
}

/** Accepts tokens of `issuer` unless changed. */
export function verifierWith(...changes: readonly Partial<IssuerConfig>[]): AccessTokenVerifier {
  const base = {
    issuer: access.issuer.url,
    audiences: ["sessiond"],
    algorithms: ["ES256"],
    keys: { kind: "url", url: access.issuer.jwksUrl },
    clockToleranceMs: TOLERANCE_MS,
  } as const;
  const issuers = changes.map((change) => ({ ...base, ...change }));
  const made = createAccessTokenVerifier({ issuers, roles: ROLES }, { now, timeoutMs: 2_000 });
  onTestFinished(() => made.close());
  return made;
}

/** Verifies a token, which `issuer` signs unless it is complete. */
export async function verified(token: string | TestToken = {}): Promise<Caller> {
  return access.verifier.verify(
    typeof token === "string" ? token : await access.issuer.sign(token),
  );
}

/** Expects a refusal with this message, which must not repeat the token. */
export async function refused(token: string | TestToken, message: string): Promise<void> {
  const text = typeof token === "string" ? token : await access.issuer.sign(token);
  const error: unknown = await verified(text).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(SessiondError);
  expect(error).toMatchObject({ reason: "UNAUTHENTICATED", message });
  for (const part of text.split(".").filter((p) => p.length > 8)) {
    expect(message).not.toContain(part);
  }
}

/** Expects that the issuer is at fault. */
export async function issuerFailed(
  token: string | TestToken,
  how = "are unavailable",
): Promise<void> {
  await expect(verified(token)).rejects.toMatchObject({
    reason: "ISSUER_UNAVAILABLE",
    message: `the signing keys of issuer ${access.issuer.url} ${how}`,
  });
}

/** A token made by hand, because no library would sign it. */
export function compact(header: object, content: string, sign: (input: string) => string): string {
  const input = [JSON.stringify(header), content].map(base64url).join(".");
  return `${input}.${sign(input)}`;
}

export function base64url(text: string): string {
  return Buffer.from(text).toString("base64url");
}

export function claims(): string {
  const exp = (access.nowMs + TOKEN_TTL_MS) / 1000;
  return JSON.stringify({ iss: access.issuer.url, aud: "sessiond", sub: "billing", exp });
}
