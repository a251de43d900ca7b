import { Socket } from "node:net";
import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, test } from "vitest";
import { ConnectionPace } from "./connection-pace.js";

/** Sockets that wait for their turn, and those that have begun. */
function enqueue(pace: ConnectionPace, count: number) {
  const sockets = Array.from({ length: count }, () => new Socket());
  const begun: Socket[] = [];
  for (const socket of sockets) pace.begin(socket, () => begun.push(socket));
  return { sockets, begun };
}

test("a thousand connections begin within thirty turns, in their order, and few of them in the first", async () => {
  const pace = new ConnectionPace();
  const { sockets, begun } = enqueue(pace, 1_000);
  expect(begun).toHaveLength(1);
  await nextTurn();
  expect(begun.length).toBeLessThan(10);
  for (let turns = 0; turns < 30; turns++) await nextTurn();
  expect(begun).toEqual(sockets);
});

test("one connection begins in a turn for as long as strangers make vain calls", async () => {
  const pace = new ConnectionPace();
  const { begun } = enqueue(pace, 100);
  for (let turns = 0; turns < 20; turns++) {
    for (let calls = 0; calls < 100; calls++) pace.noteVainCall();
    await nextTurn();
  }
  expect(begun.length).toBeLessThanOrEqual(22);
  expect(begun.length).toBeGreaterThanOrEqual(20);
});

test("a connection that ends while it waits never begins, and takes no turn", async () => {
  const pace = new ConnectionPace();
  const { sockets, begun } = enqueue(pace, 10);
  for (const socket of sockets.slice(1, 9)) socket.destroy();
  for (let turns = 0; turns < 3; turns++) await nextTurn();
  expect(begun).toEqual([sockets[0], sockets[9]]);
});

test("during a flood few connections wait, and the oldest give way", async () => {
  const pace = new ConnectionPace();
  const { sockets } = enqueue(pace, 501);
  for (let calls = 0; calls < 100; calls++) pace.noteVainCall();
  await nextTurn();
  const isDropped = sockets.map((socket) => socket.destroyed);
  expect(isDropped.lastIndexOf(true)).toBe(100);
  expect(isDropped.filter(Boolean)).toHaveLength(100);
});
