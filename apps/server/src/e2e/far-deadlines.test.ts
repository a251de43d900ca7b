import { credentials, Client as GrpcClient, Metadata } from "@grpc/grpc-js";
import { startRedisServer } from "@sessiond/core/testing";
import { expect, onTestFinished, test } from "vitest";
import { bearer } from "../testing/protocols.js";
import { useTestServer } from "../testing/test-server.js";

const COUNT = "/sessiond.v1.SessionService/CountSessions";

// On Redis, an answer takes longer than a timer that fires at once.
const server = useTestServer({ open: startRedisServer });

test.each([
  ["JSON", "application/json", "connect-timeout-ms", "2147483648"],
  ["JSON", "application/json", "connect-timeout-ms", "9999999999"],
  ["gRPC-Web", "application/grpc-web+proto", "grpc-timeout", "2147484S"],
  ["gRPC-Web", "application/grpc-web+proto", "grpc-timeout", "99999999H"],
])("a call over HTTP by %s (%s) with %s: %s is answered", async (_, type, name, timeout) => {
  const response = await fetch(server.httpUrl + COUNT, {
    method: "POST",
    headers: { "content-type": type, [name]: timeout, ...bearer(server.accessToken) },
    body: type.endsWith("json") ? "{}" : Buffer.alloc(5),
  });
  expect(response.status).toBe(200);
  if (!type.endsWith("json")) expect(await response.text()).toContain("grpc-status: 0");
});

test.each([2_147_484, 3_000_000])("a gRPC deadline in %i s is no failure", async (s) => {
  const client = new GrpcClient(server.grpcAddress, credentials.createInsecure());
  onTestFinished(() => client.close());
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  const identity = (bytes: Buffer) => bytes;
  const metadata = Metadata.fromHttp2Headers(bearer(server.accessToken));
  const options = { deadline: Date.now() + s * 1000 };
  client.makeUnaryRequest(COUNT, identity, identity, Buffer.alloc(0), metadata, options, (error) =>
    error ? reject(error) : resolve("ok"),
  );
  expect(await promise).toBe("ok");
});
