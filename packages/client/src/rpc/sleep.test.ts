import { setTimeout } from "node:timers/promises";
import { expect, test } from "vitest";
import { sleep } from "./sleep.js";

test.each([2 ** 31 - 1, 2 ** 31, 2 ** 40, Number.POSITIVE_INFINITY])(
  "a sleep of %d ms does not end at once, and its signal ends it",
  async (ms) => {
    const abort = new AbortController();
    const slept = sleep(ms, abort.signal).then(
      () => "slept",
      () => "aborted",
    );
    expect(await Promise.race([slept, setTimeout(50, "sleeps")])).toBe("sleeps");
    abort.abort();
    expect(await slept).toBe("aborted");
  },
);
