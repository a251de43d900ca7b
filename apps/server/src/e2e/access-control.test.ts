import { createHmac, createPublicKey } from "node:crypto";
import type { DescMethodServerStreaming, DescMethodUnary } from "@bufbuild/protobuf";
import type { Transport } from "@connectrpc/connect";
import { createAsyncIterable } from "@connectrpc/connect/protocol";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import type { JWK } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { KNOWN_PERMISSIONS, permissionOf } from "../services/permissions.js";
import { SERVICES } from "../services/services.js";
import { type Failure, failureIfAny } from "../testing/outcome.js";
import { GRPC, JSON_OVER_HTTP, PROTOCOLS, type Protocol } from "../testing/protocols.js";
import type { TestIssuer } from "../testing/test-issuer.js";
import {
  startTestIssuer,
  startTestServer,
  testConfig,
  useTestServer,
} from "../testing/test-server.js";

type Method = DescMethodUnary | DescMethodServerStreaming;

const METHODS = SERVICES.flatMap(({ methods }) => methods) as readonly Method[];
const TIMEOUT_MS = 5_000;
const ALL_PERMISSIONS = { scope: KNOWN_PERMISSIONS.join(" ") };
const { countSessions, createSession } = SessionService.method;

const server = useTestServer();
let stranger: TestIssuer;
beforeAll(async () => {
  stranger = await startTestIssuer();
});
afterAll(() => stranger.close());

const transports = new Map<Protocol, Transport>();

/** Always the same, so that all calls share one connection. */
function transportOf(protocol: Protocol): Transport {
  const transport = transports.get(protocol) ?? protocol.open(server);
  transports.set(protocol, transport);
  return transport;
}

/** How a method answers an empty request with this `authorization` header, if it fails at once. */
function callAs(
  protocol: Protocol,
  method: Method,
  authorization: string | undefined,
  on = server,
): Promise<Failure | undefined> {
  const headers = authorization === undefined ? {} : { authorization };
  const transport = on === server ? transportOf(protocol) : protocol.open(on);
  const call = async () => {
    if (method.methodKind === "unary") {
      await transport.unary(method, undefined, TIMEOUT_MS, headers, {}, undefined);
      return;
    }
    // One message is enough: a watch goes on for ever.
    const input = createAsyncIterable([{}]);
    const cut = new AbortController();
    const args = [method, cut.signal, TIMEOUT_MS, headers, input, undefined] as const;
    for await (const _ of (await transport.stream(...args)).message) break;
    cut.abort();
  };
  return failureIfAny(call());
}

const nowS = () => Math.floor(Date.now() / 1000);
const sign = (claims: object, header: object = {}) =>
  server.issuer.sign({ claims: { ...ALL_PERMISSIONS, ...claims }, header: { ...header } });
const signByStranger = (claims: object) =>
  stranger.sign({ claims: { ...ALL_PERMISSIONS, ...claims } });

/** The first two parts of a token with every permission; the test decides what signs it. */
function unsigned(header: object): string {
  const claims = {
    ...{ iss: server.issuer.url, aud: "sessiond", sub: "billing" },
    ...{ iat: nowS(), exp: nowS() + 600, ...ALL_PERMISSIONS },
  };
  return [header, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
    .join(".");
}

/** A token signed by HS256 with a spelling of the public key as the secret. */
function signWithPublicKey(spell: (jwk: JWK) => string | Buffer): string {
  const text = unsigned({ alg: "HS256", typ: "JWT", kid: "test" });
  const [key = {}] = server.issuer.published;
  return `${text}.${createHmac("sha256", spell(key)).update(text).digest("base64url")}`;
}

const spki = (format: "pem" | "der") => (jwk: JWK) =>
  createPublicKey({ key: jwk, format: "jwk" }).export({ type: "spki", format } as never);

const MALFORMED = /the authorization header is malformed/;
const ALGORITHM = /algorithm that is not accepted/;
const UNSIGNED = /algorithm that is not accepted|malformed/;

/** Whole `authorization` headers; undefined is none. */
const HEADERS: readonly [who: string, authorization: () => string | undefined, RegExp][] = [
  ["without a token", () => undefined, /missing/],
  ["with an empty header", () => "", /missing|malformed/],
  ["with a password", () => "Basic YW5uOnNlY3JldA==", MALFORMED],
  ["with a bare token", () => server.accessToken, MALFORMED],
  ["with two tokens", () => `Bearer ${server.accessToken} ${server.accessToken}`, MALFORMED],
];

const TOKENS: readonly [what: string, token: () => string | Promise<string>, RegExp][] = [
  ["is no JWT", () => "sst_nonsense", /the access token is malformed/],
  [
    "expired a second ago",
    () => sign({ iat: nowS() - 600, exp: nowS() - 1 }),
    /the access token has expired/,
  ],
  ["never expires", () => sign({ exp: undefined }), /no claim "exp"/],
  ["is not valid yet", () => sign({ nbf: nowS() + 60 }), /not valid yet/],
  ["is for another audience", () => sign({ aud: "billing" }), /for another audience/],
  ["is for no audience", () => sign({ aud: undefined }), /no claim "aud"/],
  ["names no subject", () => sign({ sub: undefined }), /no claim "sub"/],
  ["is of an unknown issuer", () => signByStranger({}), /unknown issuer/],
  [
    "a stranger signed in the issuer's name",
    () => signByStranger({ iss: server.issuer.url }),
    /signature is wrong/,
  ],
  ["is unsigned", () => `${unsigned({ alg: "none" })}.`, UNSIGNED],
  [
    "is unsigned and keeps a signature",
    () => `${unsigned({ alg: "none" })}.${server.accessToken.split(".")[2]}`,
    UNSIGNED,
  ],
  ["is signed with the public key as PEM", () => signWithPublicKey(spki("pem")), ALGORITHM],
  ["is signed with the public key as DER", () => signWithPublicKey(spki("der")), ALGORITHM],
  ["is signed with the public key as JSON", () => signWithPublicKey(JSON.stringify), ALGORITHM],
  [
    "was given more permissions after it was signed",
    async () => {
      const [header, , signature] = (await sign({ scope: "sessions:read" })).split(".");
      return `${header}.${unsigned({}).split(".")[1]}.${signature}`;
    },
    /signature is wrong/,
  ],
  ["is of another kind", () => sign({}, { typ: "logout+jwt" }), /another type/],
];

describe.each([GRPC, JSON_OVER_HTTP])("over $name", (protocol) => {
  test.each([
    ...HEADERS,
    ...TOKENS.map(
      ([what, token, message]) =>
        [`with a token that ${what}`, async () => `Bearer ${await token()}`, message] as const,
    ),
  ])("a caller %s is refused by every method", async (_, authorizationOf, message) => {
    const authorization = await authorizationOf();
    const token = authorization?.split(" ").at(-1);
    for (const method of METHODS) {
      const failure = await callAs(protocol, method, authorization);
      expect(failure, method.name).toMatchObject({
        ...{ code: "UNAUTHENTICATED", reason: "UNAUTHENTICATED", domain: "sessiond" },
        message: expect.stringMatching(message),
      });
      if (token) expect(failure?.message).not.toContain(token);
    }
  });

  test.each(METHODS)("$name needs its own permission, and no other", async (method) => {
    const permission = permissionOf(method);
    const others = KNOWN_PERMISSIONS.filter((known) => known !== permission);
    const lacking = await sign({ scope: [...others, `${permission}:all`, "sessions:*"].join(" ") });
    expect(await callAs(protocol, method, `Bearer ${lacking}`)).toMatchObject({
      ...{ code: "PERMISSION_DENIED", reason: "PERMISSION_DENIED", domain: "sessiond" },
      message: `the access token does not grant the permission "${permission}"`,
      metadata: { permission },
    });
    for (const claims of [{ scope: permission }, { scope: undefined, permissions: [permission] }]) {
      const failure = await callAs(protocol, method, `Bearer ${await sign(claims)}`);
      // Most methods have more to say about an empty request, but not about its caller.
      expect([undefined, "INVALID_ARGUMENT"]).toContain(failure?.reason);
    }
  });

  test("a token with any one character changed is refused", async () => {
    const token = server.accessToken;
    // The last character of base64 holds loose bits, which decoders may ignore.
    for (let i = 0; i < token.length - 1; i += 7) {
      const other = token[i] === "A" ? "B" : "A";
      const changed = token.slice(0, i) + other + token.slice(i + 1);
      const failure = await callAs(protocol, countSessions, `Bearer ${changed}`);
      expect(failure?.code, `character ${i}`).toBe("UNAUTHENTICATED");
    }
  });
});

test("the permissions of a role are those that the configuration gives it", async () => {
  const { issuer } = server;
  const issuers = testConfig({}, issuer).auth?.issuers ?? [];
  const auth = { issuers, roles: new Map([["support", ["sessions:read"]]]) };
  await using supported = await startTestServer({ issuer, config: { auth } });
  const token = await issuer.sign({ claims: { roles: ["support", "unheard-of"] } });
  expect(await callAs(GRPC, countSessions, `bearer ${token}`, supported)).toBeUndefined();
  const refused = await callAs(GRPC, createSession, `bearer ${token}`, supported);
  expect(refused).toMatchObject({ reason: "PERMISSION_DENIED" });
});

test("while an issuer's keys cannot be had, its callers are told to try again", async () => {
  await using cut = await startTestServer();
  cut.issuer.respond = (_, response) => response.writeHead(503).end();
  for (const protocol of PROTOCOLS) {
    const failure = await callAs(protocol, countSessions, `Bearer ${cut.accessToken}`, cut);
    expect(failure).toMatchObject({ code: "UNAVAILABLE", reason: "ISSUER_UNAVAILABLE" });
    expect(failure?.retryDelayMs).toBeGreaterThan(0);
  }
});
