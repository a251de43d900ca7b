import { once } from "node:events";
import { type ClientHttp2Stream, type ClientSessionOptions, connect } from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { pathOf } from "../testing/echo-client.js";
import { openStream, serveEcho } from "../testing/loopback.js";

const DAY_MS = 86_400_000;

/** A client that may repeat a header. Node's types know the option of servers only. */
const LENIENT: ClientSessionOptions & { readonly strictSingleValueFields: boolean } = {
  strictSingleValueFields: false,
};

function openSession(url: string) {
  const session = connect(url, LENIENT);
  onTestFinished(() => session.destroy());
  return session;
}

/** Sends an empty message, and waits for the call's end. */
async function grpcStatusOf(stream: ClientHttp2Stream): Promise<unknown> {
  let status: unknown;
  stream.on("response", (headers) => (status = headers["grpc-status"]));
  stream.on("trailers", (headers) => (status = headers["grpc-status"]));
  stream.end(Buffer.alloc(5)).resume();
  await once(stream, "end");
  return status;
}

test.each(["2147484S", "3000000S", "4294968S", "5000000S", "35792M", "99999999H"])(
  "a deadline of %s, too far for a timer, does not end a call",
  async (timeout) => {
    let leftMs: number | undefined;
    await using loopback = await serveEcho({
      async unary(_request, { timeoutMs }) {
        await sleep(50);
        leftMs = timeoutMs();
        return {};
      },
    });
    const session = openSession(loopback.baseUrl);
    const headers = { "grpc-timeout": timeout };
    expect(await grpcStatusOf(openStream(session, "unary", headers))).toBe("0");
    expect(leftMs).toBeGreaterThan(24 * DAY_MS);
  },
);

test.each([
  ["differ are all seen", ["Bearer a", "Bearer b", "Bearer a"], "Bearer a, Bearer b"],
  ["are alike are one", ["Bearer a", "Bearer a"], "Bearer a"],
])("authorization headers that %s", async (_, values, expected) => {
  let received: string | null = null;
  await using loopback = await serveEcho({
    unary(_request, { requestHeader }) {
      received = requestHeader.get("authorization");
      return {};
    },
  });
  const session = openSession(loopback.baseUrl);
  const head = [":method", "POST", ":path", pathOf("unary"), "content-type", "application/grpc"];
  const repeated = values.flatMap((value) => ["authorization", value]);
  const stream = session.request([...head, "te", "trailers", ...repeated]);
  expect(await grpcStatusOf(stream)).toBe("0");
  expect(received).toBe(expected);
});
