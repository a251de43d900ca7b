import { once } from "node:events";
import { connect } from "node:net";
import { expect, test } from "vitest";
import { startRedisServer } from "./redis-server.js";

async function command(port: number, line: string): Promise<string> {
  const socket = connect({ port, host: "127.0.0.1" });
  socket.write(`${line}\r\n`);
  const [reply] = await once(socket, "data");
  socket.destroy();
  return String(reply);
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test("a server answers as soon as it is started, on loopback and without persistence", async () => {
  await using server = await startRedisServer();
  expect(server.url).toBe(`redis://127.0.0.1:${server.port}`);
  expect(await command(server.port, "PING")).toBe("+PONG\r\n");
  expect(await command(server.port, "CONFIG GET bind")).toContain("127.0.0.1");
  expect(await command(server.port, "CONFIG GET save")).toBe("*2\r\n$4\r\nsave\r\n$0\r\n\r\n");
});

test("arguments reach the server", async () => {
  await using server = await startRedisServer({ args: ["--maxmemory", "4mb"] });
  expect(await command(server.port, "CONFIG GET maxmemory")).toContain("4194304");
});

test("a server with a password counts as started", async () => {
  await using server = await startRedisServer({ args: ["--requirepass", "open sesame"] });
  expect(await command(server.port, "PING")).toContain("NOAUTH");
});

test("servers that run at once have their own ports", async () => {
  const servers = await Promise.all([startRedisServer(), startRedisServer(), startRedisServer()]);
  expect(new Set(servers.map(({ port }) => port)).size).toBe(3);
  await Promise.all(servers.map((server) => server.stop()));
});

test("a stopped server is gone, may be stopped again and be started where it was", async () => {
  const first = await startRedisServer();
  await first.stop();
  await first.stop();
  expect(isRunning(first.pid)).toBe(false);
  await using second = await startRedisServer({ port: first.port });
  expect(second.port).toBe(first.port);
});

test("a killed server is gone, even when it was frozen", async () => {
  const server = await startRedisServer();
  server.pause();
  await server.kill();
  expect(isRunning(server.pid)).toBe(false);
});

test("a frozen server answers once it goes on", async () => {
  await using server = await startRedisServer();
  server.pause();
  const reply = command(server.port, "PING");
  const first = await Promise.race([reply, new Promise((resolve) => setTimeout(resolve, 100))]);
  expect(first).toBeUndefined();
  server.resume();
  expect(await reply).toBe("+PONG\r\n");
});

test("a port that is taken is an error that says so", async () => {
  await using server = await startRedisServer();
  await expect(startRedisServer({ port: server.port })).rejects.toThrow("Address already in use");
});

test("an argument that the server refuses is an error with the server's own words", async () => {
  await expect(startRedisServer({ args: ["--no-such-option", "1"] })).rejects.toThrow(
    "no-such-option",
  );
});

test("without a redis-server on the PATH the error says how to install one", async () => {
  const path = process.env["PATH"];
  process.env["PATH"] = "/nonexistent";
  try {
    await expect(startRedisServer()).rejects.toThrow("apt-get install redis-server");
  } finally {
    process.env["PATH"] = path;
  }
});
