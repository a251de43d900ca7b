import { execFile } from "node:child_process";
import * as http2 from "node:http2";
import * as net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, describe, expect, test } from "vitest";
import { createSessionClient } from "../client.js";
import { startSessionServer, wireSession } from "../testing/session-server.js";

const token = "token";
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) {
    await cleanup();
  }
});

/** A relay that can fall silent without closing a connection, as a failing network does. */
async function startRelay(target: number) {
  const pairs: [net.Socket, net.Socket][] = [];
  const relay = net.createServer((inbound) => {
    const outbound = net.connect(target, "127.0.0.1");
    for (const socket of [inbound, outbound]) {
      socket.on("error", () => {});
    }
    inbound.pipe(outbound);
    outbound.pipe(inbound);
    pairs.push([inbound, outbound]);
  });
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    relay.close();
    for (const socket of pairs.flat()) {
      socket.destroy();
    }
  });
  return {
    baseUrl: `http://127.0.0.1:${(relay.address() as net.AddressInfo).port}`,
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
  const server = await startSessionServer("grpc", {
    getSession: () => ({ session: wireSession() }),
  });
  cleanups.push(() => server[Symbol.asyncDispose]());
  const relay = await startRelay(Number(new URL(server.baseUrl).port));
  using client = createSessionClient({ baseUrl: relay.baseUrl, token });
  await client.getSession("s");
  relay.fallSilent();
  expect(await client.getSession("s")).toBeDefined();
  expect(relay.connections).toHaveLength(2);
});

test("a stream that the server closes without an answer costs no more than the timeout", async () => {
  const server = http2.createServer();
  server.on("stream", (stream) => stream.close(http2.constants.NGHTTP2_NO_ERROR));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => server.close());
  const baseUrl = `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`;
  using client = createSessionClient({ baseUrl, token });
  await expect(client.getSession("s", { timeoutMs: 200 })).rejects.toMatchObject({
    name: "SessiondError",
  });
});

test("a closed client opens no connection", async () => {
  const server = await startSessionServer("grpc", { countSessions: () => ({ count: 1 }) });
  cleanups.push(() => server[Symbol.asyncDispose]());
  const relay = await startRelay(Number(new URL(server.baseUrl).port));
  const client = createSessionClient({ baseUrl: relay.baseUrl, token });
  client.close();
  await expect(client.countSessions()).rejects.toMatchObject({ reason: "CANCELED" });
  await sleep(50);
  expect(relay.connections).toHaveLength(0);
});

test("calls at the same time share one connection", async () => {
  const server = await startSessionServer("grpc", { countSessions: () => ({ count: 1 }) });
  cleanups.push(() => server[Symbol.asyncDispose]());
  const relay = await startRelay(Number(new URL(server.baseUrl).port));
  using client = createSessionClient({ baseUrl: relay.baseUrl, token });
  await Promise.all(Array.from({ length: 200 }, () => client.countSessions()));
  expect(server.calls).toHaveLength(200);
  expect(relay.connections).toHaveLength(1);
});

describe.each(["grpc", "connect"] as const)("a process that used %s", (protocol) => {
  const packageRoot = fileURLToPath(new URL("../..", import.meta.url));

  /** Runs the built package in a process of its own; rejects if that does not exit by itself. */
  async function run(baseUrl: string, ending: string): Promise<string> {
    const script = `
      import { createSessionClient } from "@sessiond/client";
      const options = ${JSON.stringify({ baseUrl, protocol, token })};
      const client = createSessionClient(options);
      console.log(await client.countSessions());
      ${ending}
    `;
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ["--input-type=module", "--eval", script],
      { cwd: packageRoot, timeout: 10_000 },
    );
    return stdout;
  }

  test.each([
    ["exits after it closed its client", "client.close();"],
    ["exits even if it did not close its client", ""],
    [
      "exits if it closes its client during a call",
      "client.getSession('s').catch((e) => console.log(e.reason)); setTimeout(() => client.close(), 50);",
    ],
  ])("%s", async (_, ending) => {
    const server = await startSessionServer(protocol, {
      countSessions: () => ({ count: 7 }),
      getSession: () => new Promise(() => {}),
    });
    cleanups.push(() => server[Symbol.asyncDispose]());
    const stdout = await run(server.baseUrl, ending);
    expect(stdout).toBe(ending.includes("getSession") ? "7\nCANCELED\n" : "7\n");
  });
});
