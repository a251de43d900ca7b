import type { Interceptor } from "@connectrpc/connect";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { limitTime } from "./limit-time.js";

type Next = ReturnType<Interceptor>;
type Response = Awaited<ReturnType<Next>>;

const LIMIT_MS = 1_700;
const RESPONSE = {} as Response;

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** Makes calls that all pass the same interceptor, and that are answered when the test says so. */
function caller() {
  const interceptor = limitTime();
  return () => {
    const { promise, resolve } = Promise.withResolvers<Response>();
    const header = new Headers();
    const method = SessionService.method.countSessions;
    const request = { stream: false, method, header } as unknown as Parameters<Next>[0];
    let outcome = "none yet";
    interceptor(() => promise)(request).then(
      () => (outcome = "answered"),
      ({ message }: Error) => (outcome = message),
    );
    return { resolve, outcome: () => outcome };
  };
}

const TOO_LONG = expect.stringContaining("the session store is unavailable");

test("a call is answered within its time, or refused at the end of it", async () => {
  const call = caller();
  const [quick, slow] = [call(), call()];
  await vi.advanceTimersByTimeAsync(LIMIT_MS - 1);
  quick.resolve(RESPONSE);
  await vi.advanceTimersByTimeAsync(0);
  expect([quick.outcome(), slow.outcome()]).toEqual(["answered", "none yet"]);
  await vi.advanceTimersByTimeAsync(1);
  expect(slow.outcome()).toEqual(TOO_LONG);
});

test("each call has all of its time, whenever the ones before it began and ended", async () => {
  const call = caller();
  const first = call();
  await vi.advanceTimersByTimeAsync(1_000);
  const second = call();
  await vi.advanceTimersByTimeAsync(100);
  const third = call();
  first.resolve(RESPONSE);
  await vi.advanceTimersByTimeAsync(LIMIT_MS - 101);
  expect([second.outcome(), third.outcome()]).toEqual(["none yet", "none yet"]);
  await vi.advanceTimersByTimeAsync(1);
  expect([second.outcome(), third.outcome()]).toEqual([TOO_LONG, "none yet"]);
  await vi.advanceTimersByTimeAsync(100);
  expect(third.outcome()).toEqual(TOO_LONG);
});

test("a process that has stopped does not stay for the time of calls that were answered", async () => {
  vi.useRealTimers();
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
  const before = timers();
  caller()().resolve(RESPONSE);
  expect(timers()).toBe(before);
});
