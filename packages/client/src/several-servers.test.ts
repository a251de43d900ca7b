import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import {
  connectClient,
  protoSession,
  type SessionServer,
  startSessionServer,
} from "./testing/session-server.js";

const serve = (port = 0) =>
  startSessionServer("grpc", { getSession: () => ({ session: protoSession() }) }, port);

/** A busy machine may be slow. */
const PATIENT = { timeout: 8000 };

const portOf = (server: SessionServer) => Number(new URL(server.baseUrl).port);

test("several servers get calls in turn, and one that is killed and replaced gets them again", async () => {
  const [first, second] = await Promise.all([serve(), serve()]);
  const baseUrl = [first.baseUrl, second.baseUrl];
  const client = connectClient(baseUrl, { batching: false });
  const failures: unknown[] = [];
  let goesOn = true;
  const load = (async () => {
    for (let i = 0; goesOn; i++) {
      await client.getSession(`session-${i}`).catch((error) => failures.push(error));
      await sleep(2);
    }
  })();
  const leastServed = () => Math.min(first.calls.length, second.calls.length);
  await expect.poll(leastServed, PATIENT).toBeGreaterThan(20);

  await second[Symbol.asyncDispose]();
  const served = first.calls.length;
  await expect.poll(() => first.calls.length, PATIENT).toBeGreaterThan(served + 50);

  const replaced = await serve(portOf(second));
  await expect.poll(() => replaced.calls.length, PATIENT).toBeGreaterThan(20);
  goesOn = false;
  await load;
  expect(failures).toEqual([]);
}, 30_000);

test("an update goes to another server when its own cannot be reached, because it was not sent", async () => {
  const up = await startSessionServer("grpc", {
    updateSession: () => ({ session: protoSession() }),
  });
  const client = connectClient(["http://127.0.0.1:1", up.baseUrl]);
  for (let i = 0; i < 4; i++) await client.updateSession("s", { displayName: "Ada" });
  expect(up.calls).toHaveLength(4);
});
