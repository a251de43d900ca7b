import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { KeyedQueue } from "./keyed-queue.js";

test("tasks of one key run one after another, in their order", async () => {
  const queue = new KeyedQueue();
  const steps: string[] = [];
  const task = (name: string, ms: number) => async () => {
    steps.push(`${name} starts`);
    await sleep(ms);
    steps.push(`${name} ends`);
    return name;
  };
  const results = await Promise.all([
    queue.run("key", task("first", 10)),
    queue.run("key", task("second", 1)),
    queue.run("key", task("third", 0)),
  ]);
  expect(results).toEqual(["first", "second", "third"]);
  expect(steps).toEqual([
    "first starts",
    "first ends",
    "second starts",
    "second ends",
    "third starts",
    "third ends",
  ]);
});

test("tasks of different keys do not wait for each other", async () => {
  const queue = new KeyedQueue();
  let finish = () => {};
  const stuck = queue.run("a", () => new Promise<void>((resolve) => (finish = resolve)));
  expect(await queue.run("b", async () => "done")).toBe("done");
  finish();
  await stuck;
});

test("a task that fails fails alone, and those behind it run", async () => {
  const queue = new KeyedQueue();
  const failing = queue.run("key", async () => {
    throw new Error("no luck");
  });
  const next = queue.run("key", async () => "done");
  await expect(failing).rejects.toThrow("no luck");
  expect(await next).toBe("done");
  expect(await queue.run("key", async () => "again")).toBe("again");
});

test("a task waits for those before it, also when the first of them are done", async () => {
  const queue = new KeyedQueue();
  const running: string[] = [];
  const task = (name: string) => async () => {
    running.push(name);
    const alone = running.length === 1;
    await sleep(5);
    running.splice(running.indexOf(name), 1);
    return alone;
  };
  const first = queue.run("key", task("first"));
  const second = queue.run("key", task("second"));
  expect(await first).toBe(true);
  const third = queue.run("key", task("third"));
  expect(await Promise.all([second, third])).toEqual([true, true]);
});

test("a key that is idle again starts afresh", async () => {
  const queue = new KeyedQueue();
  for (let i = 0; i < 3; i++) {
    const before = performance.now();
    expect(await queue.run("key", async () => i)).toBe(i);
    expect(performance.now() - before).toBeLessThan(100);
  }
});

test("no update of a counter is lost, whatever the tasks wait for in between", async () => {
  const queue = new KeyedQueue();
  const counters: Record<string, number> = { a: 0, b: 0 };
  const increment = (key: string, ms: number) => async () => {
    const value = counters[key] ?? 0;
    await sleep(ms);
    counters[key] = value + 1;
  };
  await Promise.all(
    Array.from({ length: 100 }, (_, i) => {
      const key = i % 2 ? "a" : "b";
      return queue.run(key, increment(key, i % 3));
    }),
  );
  expect(counters).toEqual({ a: 50, b: 50 });
});
