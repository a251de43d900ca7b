import { execFile } from "node:child_process";
import { once } from "node:events";
import * as http from "node:http";
import * as http2 from "node:http2";
import * as net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, onTestFinished, test } from "vitest";
import {
  connectClient,
  never,
  PROTOCOLS,
  protoSession,
  rejection,
  startSessionServer,
} from "../testing/session-server.js";

/** A server, and a relay to it that can go silent like a failing network: it closes nothing. */
async function startBehindRelay() {
  const server = await startSessionServer("grpc", {
    getSession: () => ({ session: protoSession() }),
    countSessions: () => ({ count: 1 }),
  });
  const pairs: [net.Socket, net.Socket][] = [];
  const relay = net.createServer((inbound) => {
    const outbound = net.connect(Number(new URL(server.baseUrl).port), "127.0.0.1");
    for (const socket of [inbound, outbound]) socket.on("error", () => {});
    inbound.pipe(outbound);
    outbound.pipe(inbound);
    pairs.push([inbound, outbound]);
  });
  relay.listen(0, "127.0.0.1");
  await once(relay, "listening");
  onTestFinished(() => {
    relay.close();
    for (const socket of pairs.flat()) socket.destroy();
  });
  return {
    server,
    client: connectClient(`http://127.0.0.1:${(relay.address() as net.AddressInfo).port}`),
    connections: pairs,
    fallSilent() {
      for (const [inbound, outbound] of pairs) {
        inbound.unpipe(outbound).pause();
        outbound.unpipe(inbound).pause();
      }
    },
  };
}

test("a read on a connection that died silently is answered over a new one in time", async () => {
  const relay = await startBehindRelay();
  await relay.client.getSession("s");
  relay.fallSilent();
  expect(await relay.client.getSession("s")).toBeDefined();
  expect(relay.connections).toHaveLength(2);
});

test("a stream that the server closes without an answer costs no more than the timeout", async () => {
  const server = http2.createServer();
  server.on("stream", (stream) => stream.close(http2.constants.NGHTTP2_NO_ERROR));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
  });
  const client = connectClient(`http://127.0.0.1:${(server.address() as net.AddressInfo).port}`);
  await rejection(client.getSession("s", { timeoutMs: 200 }));
});

test("a closed client opens no connection", async () => {
  const { client, connections } = await startBehindRelay();
  client.close();
  expect((await rejection(client.countSessions())).reason).toBe("CANCELED");
  await sleep(50);
  expect(connections).toHaveLength(0);
});

test("calls at the same time share one connection, which `close` ends", async () => {
  const { client, server, connections } = await startBehindRelay();
  await Promise.all(Array.from({ length: 200 }, () => client.countSessions()));
  expect(server.calls).toHaveLength(200);
  expect(connections).toHaveLength(1);
  client.close();
  await expect.poll(() => connections[0]?.[0].destroyed).toBe(true);
});

/** Runs a script with the built package in a process of its own. Rejects unless it exits with 0. */
async function runScript(script: string): Promise<string> {
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--input-type=module", "--eval", script],
    { cwd: fileURLToPath(new URL("../..", import.meta.url)), timeout: 20_000 },
  );
  return stdout;
}

test("a process survives a port without HTTP/2, whenever it closes its client", async () => {
  const server = http.createServer((_, response) => response.end()).listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
  });
  const { port } = server.address() as net.AddressInfo;
  const script = `
    import { createSessionClient } from "@sessiond/client";
    for (let i = 0; i < 100; i++) {
      const baseUrl = "http://127.0.0.1:${port}";
      const client = createSessionClient({ baseUrl, token: "token", maxAttempts: 1 });
      const call = client.countSessions().catch(() => {});
      for (let turn = 0; turn < i % 20; turn++) await new Promise(setImmediate);
      client.close();
      await call;
    }
  `;
  expect(await runScript(script)).toBe("");
});

describe.each(PROTOCOLS)("a process that used %s", (protocol) => {
  test.each([
    ["after it closed its client", "client.close();", ""],
    ["even if it did not close its client", "", ""],
    [
      "if it closes its client during a call",
      "client.getSession('s').catch((e) => console.log(e.reason)); setTimeout(() => client.close(), 50);",
      "CANCELED\n",
    ],
  ])("exits %s", async (_, ending, output) => {
    const { baseUrl } = await startSessionServer(protocol, {
      countSessions: () => ({ count: 7 }),
      getSession: never,
    });
    const script = `
      import { createSessionClient } from "@sessiond/client";
      const client = createSessionClient(${JSON.stringify({ baseUrl, protocol, token: "token" })});
      console.log(await client.countSessions());
      ${ending}
    `;
    expect(await runScript(script)).toBe(`7\n${output}`);
  });
});
