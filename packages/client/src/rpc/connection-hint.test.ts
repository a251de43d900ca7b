import { once } from "node:events";
import * as http from "node:http";
import * as http2 from "node:http2";
import * as net from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { createSessionClient } from "../client.js";
import { connectClient, rejection, startSessionServer } from "../testing/session-server.js";

/** The address of a server that is not sessiond's, or not on this port. Ends with the test. */
async function listening(server: net.Server): Promise<string> {
  const sockets: net.Socket[] = [];
  server.on("connection", (socket) => sockets.push(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return `127.0.0.1:${(server.address() as net.AddressInfo).port}`;
}

const page = (status: number) =>
  http.createServer((_, response) => {
    response.writeHead(status, { "content-type": "text/html" }).end("<h1>It works!</h1>");
  });

describe("a message says that this may be the wrong port or protocol", () => {
  test.each([
    ["an HTTP/1.1 server is called with protocol grpc", "grpc", () => page(200), "not HTTP/2"],
    [
      "the gRPC port is called with protocol connect",
      "connect",
      () => http2.createServer(),
      "not HTTP/1.1",
    ],
    ["a web server has a page instead", "connect", () => page(200), "not sessiond's"],
    ["a web server has no such page", "connect", () => page(404), "not sessiond's"],
    ["a proxy redirects to its login", "connect", () => page(302), "not sessiond's"],
    [
      "the server closes the connection",
      "connect",
      () => net.createServer((socket) => socket.destroy()),
      "closed the connection",
    ],
  ] as const)("when %s", async (_, protocol, server, seen) => {
    const baseUrl = `http://${await listening(server())}`;
    const { message } = await rejection(connectClient(baseUrl, { protocol }).countSessions());
    expect(message).toMatch(/: [^:]+\. Is this the right port and protocol\? [A-Z].*\.$/);
    expect(message).toContain(seen);
  });

  test.each(["grpc", "connect"] as const)(
    "when %s with TLS is called without",
    async (protocol) => {
      const { baseUrl } = await startSessionServer(protocol, {});
      const https = baseUrl.replace("http:", "https:");
      const { message } = await rejection(connectClient(https, { protocol }).countSessions());
      expect(message).toMatch(/^[^:]*wrong version number[^:]*: .*not TLS.*protocol\? .*`http:`/);
    },
  );
});

test("a server that fails for a while is not suspected to be another", async () => {
  const baseUrl = `http://${await listening(page(502))}`;
  const client = createSessionClient({ baseUrl, protocol: "connect", token: "t", maxAttempts: 1 });
  onTestFinished(() => client.close());
  expect((await rejection(client.countSessions())).message).not.toContain("right port");
});
