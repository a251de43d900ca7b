import { randomBytes } from "node:crypto";
import { gzipSync } from "node:zlib";
import type { JsonObject } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { failureOf } from "../testing/outcome.js";
import { bearer, clientOver, JSON_OVER_HTTP } from "../testing/protocols.js";
import { useTestServer } from "../testing/test-server.js";

const SERVICE = "/sessiond.v1.SessionService";

const server = useTestServer();

interface Answer {
  readonly status: number;
  readonly json: Readonly<Record<string, never>> & {
    readonly message?: string;
    readonly session?: { readonly data: JsonObject };
  };
}

async function post(body: string | Buffer, { method = "CreateSession", headers = {} } = {}) {
  const response = await fetch(`${server.httpUrl}${SERVICE}/${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...bearer(server.accessToken), ...headers },
    body,
  });
  return { status: response.status, json: await response.json() } as Answer;
}

/** Creates a session with a number in its data, as it is written. */
function create(number: string, headers = {}): Promise<Answer> {
  return post(`{"userId":"ann","data":{"steamId":${number}}}`, { headers });
}

function refusalOf(path: string): string {
  const why = "has more digits than a double can hold; send it as a string";
  return `cannot decode a number from JSON: ${path} ${why}`;
}

describe("a JSON number that would come back as another one", () => {
  test.each([
    "76561198000000001",
    "-76561198000000001",
    "9007199254740993",
    "7.6561198000000001e16",
    "76561198000000001.0",
    "9007199254740992.5",
    // A double holds it, but JSON then says 18446744073709552000.
    "18446744073709551616",
    "1e400",
    "-1E+400",
    "99999999999999999999",
  ])("is refused: %s", async (number) => {
    const { status, json } = await create(number);
    expect([status, json.message]).toEqual([400, refusalOf("data.steamId")]);
  });

  test.each([
    "9007199254740991",
    "9007199254740992",
    "76561198000000000",
    "0.1",
    "0.12345678901234567890123",
    "1e21",
    "1.50e+300",
    "100000000000000000000000",
    "1e-400",
  ])("is not this one: %s", async (number) => {
    const { status, json } = await create(number);
    expect([status, json.session?.data]).toEqual([200, { steamId: Number(number) }]);
  });

  test("is told by its whole path, which the log does not learn", async () => {
    const lost = "76561198000000001";
    const inSession = `{"session":{"data":{"my cart":[0,{"id":${lost}}]}},"update_mask":"data"}`;
    const updated = await post(inSession, { method: "UpdateSession" });
    const path = "session.data.my cart[1].id";
    expect(updated.json.message).toBe(refusalOf(path));
    expect(updated.json).toMatchObject({
      details: [
        { debug: { reason: "INVALID_ARGUMENT", domain: "sessiond", metadata: { field: path } } },
        { debug: { fieldViolations: [{ field: path }] } },
      ],
    });
    const fenced = `{"fence":{"lock":"a","token":${lost}}}`;
    const { json } = await post(fenced, { method: "UpdateSession" });
    expect(json.message).toBe(refusalOf("fence.token"));
    expect(JSON.stringify(server.logs.at(-1))).toContain('"cannot decode a number from JSON"');
    expect(JSON.stringify(server.logs)).not.toMatch(/my cart|76561198/);
  });

  test("is refused in a compressed request, too", async () => {
    const body = gzipSync('{"userId":"ann","data":{"steamId":76561198000000001}}');
    const { json } = await post(body, { headers: { "content-encoding": "gzip" } });
    expect(json.message).toBe(refusalOf("data.steamId"));
  });

  test("as text is kept, whatever stands around it", async () => {
    const data = { steamId: "76561198000000001", text: ': 76561198000000001, [1e400] "' };
    const client = clientOver(JSON_OVER_HTTP, server);
    expect((await client.createSession({ userId: "ann", data })).session?.data).toEqual(data);
    await expect(failureOf(client.verifySession({ token: ":1e400" }))).resolves.toMatchObject({
      code: "NOT_FOUND",
    });
  });

  test("is none that JSON.stringify writes", async () => {
    for (let i = 0; i < 20; i++) {
      const bits = Array.from({ length: 500 }, () => randomBytes(8).readDoubleBE());
      const numbers = bits.filter(Number.isFinite);
      const { json } = await post(JSON.stringify({ userId: "ann", data: { numbers } }));
      expect(JSON.stringify(json.session?.data)).toBe(JSON.stringify({ numbers }));
    }
  });
});
