import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { startTcpFaultProxy, type TcpFaultProxy } from "./tcp-fault-proxy.js";

/** Answers each chunk `x` with `re: x`, and an end with an end. */
let server: Server;
let received: string[];
let accepted: Socket[];
let proxy: TcpFaultProxy;
beforeEach(async () => {
  received = [];
  accepted = [];
  server = createServer((socket) => {
    accepted.push(socket.on("error", () => {}));
    socket.on("data", (chunk) => {
      received.push(String(chunk));
      socket.write(`re: ${chunk}`);
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  proxy = await startTcpFaultProxy({ host: "127.0.0.1", port });
});
afterEach(async () => {
  await proxy.stop();
  server.close();
});

interface Client {
  readonly socket: Socket;
  readonly replies: string[];
}

async function open(): Promise<Client> {
  const socket = connect({ port: proxy.port, host: "127.0.0.1", noDelay: true });
  const replies: string[] = [];
  socket.on("data", (chunk) => replies.push(String(chunk))).on("error", () => {});
  await once(socket, "connect");
  return { socket, replies };
}

async function ask({ socket, replies }: Client, question: string): Promise<string | undefined> {
  const before = replies.length;
  socket.write(question);
  await vi.waitFor(() => expect(replies.length > before || socket.closed).toBe(true), WAITING);
  return replies[before];
}

function seenByServer(text: string): Promise<void> {
  return vi.waitFor(() => expect(received).toContain(text), WAITING);
}

function closed({ socket }: Client): Promise<void> {
  return vi.waitFor(() => expect(socket.closed).toBe(true), WAITING);
}

const WAITING = { timeout: 5_000, interval: 5 };
/** Long enough for a reply that is not held back. */
const REPLY_MS = 50;

test("bytes pass both ways, and so does the end of a connection, after a large answer", async () => {
  const client = await open();
  expect(await ask(client, "one")).toBe("re: one");
  const sizeBytes = 8 * 1024 * 1024;
  accepted[0]?.end(Buffer.alloc(sizeBytes));
  await closed(client);
  expect(client.socket.bytesRead).toBe(sizeBytes + "re: one".length);
  await vi.waitFor(() => expect(accepted[0]?.closed).toBe(true), WAITING);
});

test("a cut ends every connection; while the proxy refuses none lasts, until it passes again", async () => {
  const [first, second] = [await open(), await open()];
  await ask(first, "one");
  proxy.cut();
  await Promise.all([closed(first), closed(second)]);
  const third = await open();
  expect(await ask(third, "two")).toBe("re: two");
  proxy.refuse();
  await Promise.all([closed(third), closed(await open())]);
  expect(accepted.length).toBeLessThanOrEqual(3);
  proxy.pass();
  expect(await ask(await open(), "again")).toBe("re: again");
});

test("a delay counts once for each direction, from when bytes came, until it ends", async () => {
  const client = await open();
  proxy.delay(100);
  const startMs = performance.now();
  client.socket.write("one");
  await sleep(60);
  client.socket.write("two");
  await vi.waitFor(() => expect(client.replies).toEqual(["re: one"]), WAITING);
  // Timers may be up to a millisecond early.
  expect(performance.now() - startMs).toBeGreaterThanOrEqual(198);
  await vi.waitFor(() => expect(client.replies).toEqual(["re: one", "re: two"]), WAITING);
  expect(performance.now() - startMs).toBeGreaterThanOrEqual(258);
  proxy.delay(60_000);
  client.socket.write("three");
  await sleep(REPLY_MS);
  expect(received).not.toContain("three");
  proxy.pass();
  await vi.waitFor(() => expect(client.replies).toContain("re: three"), WAITING);
});

test("half open, the server hears and cannot be heard, until late", async () => {
  const client = await open();
  await ask(client, "one");
  proxy.halfOpen();
  client.socket.write("two");
  await seenByServer("two");
  const later = await open();
  later.socket.write("three");
  await seenByServer("three");
  accepted[1]?.destroy();
  await sleep(REPLY_MS);
  expect(client.replies).toEqual(["re: one"]);
  expect([client.socket.closed, later.socket.closed]).toEqual([false, false]);

  proxy.pass();
  await vi.waitFor(() => expect(client.replies).toEqual(["re: one", "re: two"]), WAITING);
  await closed(later);
});

test("the last dropped reply ends the connections that replies were dropped on, and no other", async () => {
  const [first, second, bystander] = [await open(), await open(), await open()];
  proxy.dropReplies(2);
  first.socket.write("one");
  await seenByServer("one");
  await sleep(REPLY_MS);
  expect(first.socket.closed).toBe(false);
  expect(await ask(second, "two")).toBeUndefined();
  await closed(first);
  expect([...first.replies, ...second.replies]).toEqual([]);
  expect(received).toEqual(["one", "two"]);
  expect(await ask(bystander, "read")).toBe("re: read");
  expect(() => proxy.dropReplies(0)).toThrow(RangeError);
});

test("a connection ends when nobody listens behind the proxy, or when the proxy is stopped", async () => {
  const client = await open();
  await ask(client, "one");
  server.close();
  await closed(await open());
  proxy.delay(60_000);
  client.socket.write("never");
  for (let times = 0; times < 2; times++) await proxy.stop();
  await closed(client);
  const [error] = await once(connect(proxy.port, "127.0.0.1"), "error");
  expect(error.code).toBe("ECONNREFUSED");
});
