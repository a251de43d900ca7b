import { expect, test } from "vitest";
import { startRedisServer } from "./redis-server.js";
import { withRedis } from "./with-redis.js";

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test("a server answers as soon as it is started, on loopback, without persistence, as told", async () => {
  await using server = await startRedisServer({ args: ["--maxmemory", "4mb"] });
  expect(server.url).toBe(`redis://127.0.0.1:${server.port}`);
  const config = await withRedis(server.port, (redis) =>
    redis.config("GET", "bind", "save", "maxmemory"),
  );
  const pairs = ["bind", "127.0.0.1", "save", "", "maxmemory", "4194304"];
  expect(new Set(config as string[])).toEqual(new Set(pairs));
  await using secured = await startRedisServer({ args: ["--requirepass", "open sesame"] });
  await expect(withRedis(secured.port, (redis) => redis.ping())).rejects.toThrow("NOAUTH");
});

test("a stopped or killed server is gone, even a frozen one, and may be started where it was", async () => {
  const first = await startRedisServer();
  for (let times = 0; times < 2; times++) await first.stop();
  expect(isRunning(first.pid)).toBe(false);
  const second = await startRedisServer({ port: first.port });
  expect(second.port).toBe(first.port);
  second.pause();
  await second.kill();
  expect(isRunning(second.pid)).toBe(false);
});

test("a frozen server answers once it goes on", async () => {
  await using server = await startRedisServer();
  await withRedis(server.port, async (redis) => {
    await redis.connect();
    server.pause();
    const reply = redis.ping();
    const pause = new Promise((resolve) => setTimeout(resolve, 100));
    expect(await Promise.race([reply, pause])).toBeUndefined();
    server.resume();
    expect(await reply).toBe("PONG");
  });
});

test("a server that cannot be started is an error that says why", async () => {
  await using server = await startRedisServer();
  await expect(startRedisServer({ port: server.port })).rejects.toThrow("Address already in use");
  const refused = startRedisServer({ args: ["--no-such-option", "1"] });
  await expect(refused).rejects.toThrow("no-such-option");
  const path = process.env["PATH"];
  process.env["PATH"] = "/nonexistent";
  const missing = startRedisServer().finally(() => {
    process.env["PATH"] = path;
  });
  await expect(missing).rejects.toThrow("apt-get install redis-server");
});
