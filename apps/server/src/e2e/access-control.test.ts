import { createHmac, createPublicKey } from "node:crypto";
import type { DescMethodServerStreaming, DescMethodUnary } from "@bufbuild/protobuf";
import type { Transport } from "@connectrpc/connect";
import { createAsyncIterable } from "@connectrpc/connect/protocol";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import type { JWK } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { KNOWN_PERMISSIONS, permissionOf } from "../services/permissions.js";
import { SERVICES } from "../services/services.js";
import { type Failure, failureOf } from "../testing/outcome.js";
import { GRPC, JSON_OVER_HTTP, PROTOCOLS, type Protocol } from "../testing/protocols.js";
import { TestIssuer } from "../testing/test-issuer.js";
import { startTestIssuer, startTestServer, type TestServer } from "../testing/test-server.js";

type Method = DescMethodUnary | DescMethodServerStreaming;

const METHODS = SERVICES.flatMap(({ methods }) => methods) as readonly Method[];
const TIMEOUT_MS = 5_000;
const ALL_PERMISSIONS = { scope: KNOWN_PERMISSIONS.join(" ") };

let server: TestServer;
let stranger: TestIssuer;
beforeAll(async () => {
  server = await startTestServer();
  stranger = await startTestIssuer();
});
afterAll(async () => {
  await stranger.close();
  await server[Symbol.asyncDispose]();
});

/** How a method answers an empty request under this `authorization`, if it fails at once. */
function callAs(
  protocol: Protocol,
  method: Method,
  authorization: string | undefined,
  on = server,
): Promise<Failure | undefined> {
  const headers = authorization === undefined ? {} : { authorization };
  return firstAnswer(protocol.open(on), method, headers).then(
    () => undefined,
    (error) => failureOf(Promise.reject(error)),
  );
}

/** Waits for one message; a stream is let go of then, as it may go on for ever. */
async function firstAnswer(
  transport: Transport,
  method: Method,
  headers: HeadersInit,
): Promise<void> {
  if (method.methodKind === "unary") {
    await transport.unary(method, undefined, TIMEOUT_MS, headers, {}, undefined);
    return;
  }
  const input = createAsyncIterable([{}]);
  const cut = new AbortController();
  const answer = await transport.stream(method, cut.signal, TIMEOUT_MS, headers, input, undefined);
  for await (const _ of answer.message) break;
  cut.abort();
}

const sign = (claims: object, header: object = {}) =>
  server.issuer.sign({ claims: { ...ALL_PERMISSIONS, ...claims }, header: { ...header } });
const nowS = () => Math.floor(Date.now() / 1000);

interface Refusal {
  readonly who: string;
  /** The whole `authorization` header; undefined where there is none. */
  readonly authorization: () => Promise<string> | string | undefined;
  readonly message: RegExp;
}

const REFUSALS: readonly Refusal[] = [
  { who: "without a token", authorization: () => undefined, message: /missing/ },
  { who: "with an empty header", authorization: () => "", message: /missing|malformed/ },
  {
    who: "with a password instead",
    authorization: () => "Basic YW5uOnNlY3JldA==",
    message: /the authorization header is malformed/,
  },
  {
    who: "with a token, but no word of what it is",
    authorization: () => server.accessToken,
    message: /the authorization header is malformed/,
  },
  {
    who: "with two tokens",
    authorization: () => `Bearer ${server.accessToken} ${server.accessToken}`,
    message: /the authorization header is malformed/,
  },
  {
    who: "with something that is no JWT",
    authorization: () => "Bearer sst_nonsense",
    message: /the access token is malformed/,
  },
  {
    who: "with a token that expired a second ago",
    authorization: bearer(() => sign({ iat: nowS() - 600, exp: nowS() - 1 })),
    message: /the access token has expired/,
  },
  {
    who: "with a token that never expires",
    authorization: bearer(() => sign({ exp: undefined })),
    message: /no claim "exp"/,
  },
  {
    who: "with a token that is not valid yet",
    authorization: bearer(() => sign({ nbf: nowS() + 60 })),
    message: /not valid yet/,
  },
  {
    who: "with a token for another audience",
    authorization: bearer(() => sign({ aud: "billing" })),
    message: /for another audience/,
  },
  {
    who: "with a token for no audience",
    authorization: bearer(() => sign({ aud: undefined })),
    message: /no claim "aud"/,
  },
  {
    who: "with a token of nobody",
    authorization: bearer(() => sign({ sub: undefined })),
    message: /no claim "sub"/,
  },
  {
    who: "with a token of an unknown issuer",
    authorization: bearer(() => stranger.sign({ claims: ALL_PERMISSIONS })),
    message: /unknown issuer/,
  },
  {
    who: "with a stranger's token that claims to be of the issuer",
    authorization: bearer(() =>
      stranger.sign({ claims: { ...ALL_PERMISSIONS, iss: server.issuer.url } }),
    ),
    message: /signature is wrong/,
  },
  {
    who: "with an unsigned token",
    authorization: bearer(async () => `${unsigned({ alg: "none" })}.`),
    message: /algorithm that is not accepted|malformed/,
  },
  {
    who: "with an unsigned token that keeps a signature",
    authorization: bearer(async () => {
      const [, , signature] = server.accessToken.split(".");
      return `${unsigned({ alg: "none" })}.${signature}`;
    }),
    message: /algorithm that is not accepted|malformed/,
  },
  ...publicKeySpellings().map(({ name, spell }) => ({
    who: `with a token signed by HS256 with the public key as ${name}`,
    authorization: bearer(async () => {
      const text = unsigned({ alg: "HS256", typ: "JWT", kid: "test" });
      const [key = {}] = server.issuer.published;
      const signature = createHmac("sha256", spell(key)).update(text).digest("base64url");
      return `${text}.${signature}`;
    }),
    message: /algorithm that is not accepted/,
  })),
  {
    who: "with a token whose permissions were widened after it was signed",
    authorization: bearer(async () => {
      const [header, , signature] = (await sign({ scope: "sessions:read" })).split(".");
      const claims = unsigned({}).split(".")[1];
      return `${header}.${claims}.${signature}`;
    }),
    message: /signature is wrong/,
  },
  {
    who: "with a token of another kind than an access token",
    authorization: bearer(() => sign({}, { typ: "logout+jwt" })),
    message: /another type/,
  },
];

describe.each([GRPC, JSON_OVER_HTTP])("over $name", (protocol) => {
  test.each(REFUSALS)("a caller $who is refused by every method", async (refusal) => {
    const authorization = await refusal.authorization();
    for (const method of METHODS) {
      const failure = await callAs(protocol, method, authorization);
      expect(failure, method.name).toMatchObject({
        code: "UNAUTHENTICATED",
        reason: "UNAUTHENTICATED",
        domain: "sessiond",
        message: expect.stringMatching(refusal.message),
      });
      const token = authorization?.split(" ").at(-1);
      if (token) expect(failure?.message).not.toContain(token);
    }
  });

  test.each(METHODS)("$name needs its own permission, and no other", async (method) => {
    const permission = permissionOf(method);
    const others = KNOWN_PERMISSIONS.filter((known) => known !== permission);
    const lacking = await sign({ scope: [...others, `${permission}:all`, "sessions:*"].join(" ") });
    expect(await callAs(protocol, method, `Bearer ${lacking}`)).toMatchObject({
      code: "PERMISSION_DENIED",
      reason: "PERMISSION_DENIED",
      domain: "sessiond",
      message: `the access token does not grant the permission "${permission}"`,
      metadata: { permission },
    });

    for (const claims of [{ scope: permission }, { scope: undefined, permissions: [permission] }]) {
      const failure = await callAs(protocol, method, `Bearer ${await sign(claims)}`);
      // Most methods have more to say about an empty request, but not on who makes it.
      expect([undefined, "INVALID_ARGUMENT"]).toContain(failure?.reason);
    }
  });

  test("a token with any one character changed is refused", async () => {
    const token = server.accessToken;
    // The last character of base64 holds loose bits, which decoders may ignore.
    for (let i = 0; i < token.length - 1; i += 7) {
      const other = token[i] === "A" ? "B" : "A";
      const changed = token.slice(0, i) + other + token.slice(i + 1);
      const failure = await callAs(
        protocol,
        SessionService.method.countSessions,
        `Bearer ${changed}`,
      );
      expect(failure?.code, `character ${i}`).toBe("UNAUTHENTICATED");
    }
  });
});

test("the permissions of a role are those that the configuration gives it", async () => {
  const issuer = await startTestIssuer();
  const base = {
    issuer: issuer.url,
    audiences: ["sessiond"],
    algorithms: ["ES256"],
    keys: { kind: "inline", jwks: issuer.jwks },
    clockToleranceMs: 0,
  } as const;
  const auth = { issuers: [base], roles: new Map([["support", ["sessions:read"]]]) };
  await using supported = await startTestServer({ issuer, config: { auth } });
  const token = await issuer.sign({ claims: { roles: ["support", "unheard-of"] } });
  const { countSessions, createSession } = SessionService.method;
  expect(await callAs(GRPC, countSessions, `bearer ${token}`, supported)).toBeUndefined();
  expect(await callAs(GRPC, createSession, `bearer ${token}`, supported)).toMatchObject({
    reason: "PERMISSION_DENIED",
  });
  await issuer.close();
});

test("while an issuer's keys cannot be had, its callers are told to try again", async () => {
  const issuer = await TestIssuer.start();
  await issuer.addKey("test");
  const token = await issuer.sign({ claims: ALL_PERMISSIONS });
  await using cut = await startTestServer({ issuer });
  issuer.respond = (_, response) => response.writeHead(503).end();
  for (const protocol of PROTOCOLS) {
    const { countSessions } = SessionService.method;
    expect(await callAs(protocol, countSessions, `Bearer ${token}`, cut)).toMatchObject({
      code: "UNAVAILABLE",
      reason: "ISSUER_UNAVAILABLE",
      retryDelayMs: expect.any(Number),
    });
  }
  await issuer.close();
});

function bearer(make: () => Promise<string>): () => Promise<string> {
  return async () => `Bearer ${await make()}`;
}

/** The first two parts of a token with every permission; what signs it is up to the test. */
function unsigned(header: object): string {
  const claims = {
    iss: server.issuer.url,
    aud: "sessiond",
    sub: "billing",
    iat: nowS(),
    exp: nowS() + 600,
    ...ALL_PERMISSIONS,
  };
  return [header, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
    .join(".");
}

/** The ways in which a public key can be taken for a secret. */
function publicKeySpellings(): readonly {
  readonly name: string;
  readonly spell: (jwk: JWK) => string | Buffer;
}[] {
  const keyOf = (jwk: JWK) => createPublicKey({ key: jwk, format: "jwk" });
  return [
    { name: "PEM", spell: (jwk) => keyOf(jwk).export({ type: "spki", format: "pem" }) },
    { name: "DER", spell: (jwk) => keyOf(jwk).export({ type: "spki", format: "der" }) },
    { name: "JSON", spell: (jwk) => JSON.stringify(jwk) },
  ];
}
