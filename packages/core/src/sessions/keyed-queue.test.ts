import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { KeyedQueue } from "./keyed-queue.js";

test("tasks of one key run one after another, also when the first of them are done", async () => {
  const queue = new KeyedQueue();
  const steps: string[] = [];
  const run = (name: string, ms: number) =>
    queue.run("key", async () => {
      steps.push(`${name} starts`);
      await sleep(ms);
      steps.push(`${name} ends`);
      return name;
    });
  const [first, second] = [run("first", 10), run("second", 5)];
  expect(await first).toBe("first");
  expect(await Promise.all([second, run("third", 0)])).toEqual(["second", "third"]);
  expect(steps).toEqual(
    ["first", "second", "third"].flatMap((name) => [`${name} starts`, `${name} ends`]),
  );
});

test("tasks of different keys do not wait for each other", async () => {
  const queue = new KeyedQueue();
  const { promise, resolve } = Promise.withResolvers<void>();
  const stuck = queue.run("a", () => promise);
  expect(await queue.run("b", async () => "done")).toBe("done");
  resolve();
  await stuck;
});

test("a task that fails fails alone, and those behind it run", async () => {
  const queue = new KeyedQueue();
  const failing = queue.run("key", () => Promise.reject(new Error("no luck")));
  const next = queue.run("key", async () => "done");
  await expect(failing).rejects.toThrow("no luck");
  expect(await next).toBe("done");
  expect(await queue.run("key", async () => "again")).toBe("again");
});
