import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { setTimeout } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { createSessionClient } from "@sessiond/client";
import * as onConnect from "@sessiond/client/connect";
import * as onGrpcJs from "@sessiond/client/grpc-js";
import { ErrorInfoSchema, RetryInfoSchema } from "@sessiond/proto/google/rpc/error_details";
import { describe, expect, onTestFinished, test } from "vitest";
import { startTestServer, useTestServer } from "../testing/test-server.js";
import {
  type Basket,
  FRAMEWORKS,
  type Shop,
  type ShopOptions,
  UNARY,
} from "./user-services.test.fixture.js";

const server = useTestServer();

/** Ends with the test. */
function clientOf(baseUrl = server.grpcUrl, token = server.accessToken) {
  const client = createSessionClient<Basket>({ baseUrl, token });
  onTestFinished(() => client.close());
  return client;
}

type Headers = Record<string, string>;
const userHeaders = (token: string): Headers => ({ "session-token": token });

/** A call of each kind for a user: their answers, or their errors as a client gets them. */
async function callBoth({ client }: Shop, headers: Headers = {}) {
  const stream = async () => {
    for await (const { resumeToken } of client.watchSessions({}, { headers })) return resumeToken;
    return "nothing";
  };
  const failed = (thrown: unknown) => {
    const error = ConnectError.from(thrown);
    const [info] = error.findDetails(ErrorInfoSchema);
    const retry = error.findDetails(RetryInfoSchema).length > 0;
    return { code: Code[error.code], reason: info?.reason, domain: info?.domain, retry };
  };
  return Promise.all([client.getSession({}, { headers }).catch(failed), stream().catch(failed)]);
}

const refused = (code: string, reason: string, retry = false) => {
  const error = { code, reason, domain: "sessiond", retry };
  return [error, error];
};
const LOG_IN = refused("Unauthenticated", "SESSION_NOT_FOUND");

describe.each(Object.entries(FRAMEWORKS))("a service on %s", (framework, start) => {
  const userId = `ann-${framework}`;
  const startShop = (options: Partial<ShopOptions> = {}) =>
    start({ client: clientOf(), ...options });
  async function logIn(client = clientOf()) {
    return (await client.createSession({ userId, data: { basket: ["tea", "jam"] } })).token;
  }

  test("has the session and the data of the user for whom another service calls", async () => {
    const shop = await startShop();
    const answer = { session: { userId, displayName: "tea jam" } };
    expect(await callBoth(shop, userHeaders(await logIn()))).toMatchObject([answer, userId]);
  });

  test("serves no call without a valid session, and does not say why", async () => {
    const shop = await startShop();
    const token = await logIn();
    await clientOf().revokeSession({ token });
    const elsewhere: Headers = { authorization: `Bearer ${await logIn()}` };
    for (const headers of [{}, elsewhere, ...["", "nonsense", "a, b", token].map(userHeaders)]) {
      expect(await callBoth(shop, headers)).toEqual(LOG_IN);
    }
    expect(shop.served).toEqual([]);
  });

  test("takes a bearer token if its header is authorization, and no other credential", async () => {
    const shop = await startShop({ header: "Authorization" });
    const token = await logIn();
    const [answer] = await callBoth(shop, { authorization: `Bearer ${token}` });
    expect(answer).toMatchObject({ session: { userId } });
    for (const headers of [userHeaders(token), { authorization: `Basic ${token}` }]) {
      expect(await callBoth(shop, headers)).toEqual(LOG_IN);
    }
  });

  test("serves guests where a session is optional, and only there", async () => {
    const shop = await startShop({ optional: (path) => path === UNARY });
    for (const headers of [{}, userHeaders("nonsense")]) {
      const [unary, stream] = await callBoth(shop, headers);
      expect(unary).toMatchObject({ session: { userId: "" } });
      expect(stream).toEqual(LOG_IN[1]);
    }
    expect(shop.served).toEqual([undefined, undefined]);
  });

  test("is unavailable while sessiond is, also where a session is optional", async () => {
    const down = await startTestServer();
    const client = clientOf(down.grpcUrl, down.accessToken);
    const token = await logIn(client);
    const errors: string[] = [];
    const onError = ({ reason }: { reason: string }) => void errors.push(reason);
    const shop = await startShop({ client, onError, optional: (path) => path === UNARY });
    await down[Symbol.asyncDispose]();
    const unavailable = refused("Unavailable", "UNAVAILABLE", true);
    expect(await callBoth(shop, userHeaders(token))).toEqual(unavailable);
    expect([shop.served, errors]).toEqual([[], ["UNAVAILABLE", "UNAVAILABLE"]]);
  });

  test("does not tell users to log in when sessiond refuses the service itself", async () => {
    const token = await logIn();
    const shop = await startShop({ client: clientOf(server.grpcUrl, "expired") });
    const refusal = refused("Internal", "UNAUTHENTICATED");
    expect(await callBoth(shop, userHeaders(token))).toEqual(refusal);
  });

  test("neither serves nor reports a call that has ended before sessiond answers", async () => {
    const silent = createServer(() => {}).listen(0, "127.0.0.1");
    await once(silent, "listening");
    onTestFinished(() => void silent.close());
    const baseUrl = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    const client = createSessionClient<Basket>({ baseUrl, token: "t", timeoutMs: 600 });
    onTestFinished(() => client.close());
    const errors: unknown[] = [];
    const shop = await startShop({ client, onError: (error) => void errors.push(error) });
    const call = shop.client.getSession({}, { headers: userHeaders("sst_1"), timeoutMs: 200 });
    await expect(call).rejects.toMatchObject({ code: Code.DeadlineExceeded });
    await setTimeout(800);
    expect([shop.served, errors]).toEqual([[], []]);
  });

  test.each(Object.entries(FRAMEWORKS))("forwards its user to a service on %s", async (_, next) => {
    const header = "x-user-session";
    const back = await next({ client: clientOf(), header });
    const front = await startShop({ header, behind: back.port });
    const [answer] = await callBoth(front, { [header]: await logIn() });
    expect(answer).toMatchObject({ session: { userId } });
    expect(back.served).toEqual([userId]);
  });
});

test.each([
  ["a misspelt option", { heder: "x-user" }, /heder: .*did you mean header/],
  ["a header of binary values", { header: "user-bin" }, /header: expected/],
  ["no client", { client: undefined }, /client: expected/],
])("%s is refused before the first call", (_, options, message) => {
  const wrong = { client: clientOf(), ...options } as ShopOptions;
  for (const { userSessions } of [onConnect, onGrpcJs]) {
    expect(() => userSessions(wrong)).toThrow(message);
  }
});
