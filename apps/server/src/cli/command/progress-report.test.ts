import { expect, test } from "vitest";
import { ProgressReport } from "./progress-report.js";

/** A report, what it wrote, and its clock. */
function reportOn(output: { isTTY?: boolean; columns?: number }, total = 2_000) {
  const written = { text: "" };
  const clock = { nowMs: 0 };
  const write = (text: string) => {
    written.text += text;
  };
  const report = new ProgressReport({ ...output, write }, total, () => clock.nowMs);
  return { report, written, clock };
}

test("a terminal shows a bar in one line, with percent, counts and rate", () => {
  const { report, written, clock } = reportOn({ isTTY: true });
  clock.nowMs = 500;
  report.progress(500);
  report.progress(1_000);
  expect(written.text.split("\r\x1b[2K")).toEqual([
    "",
    `[${"#".repeat(7)}${".".repeat(23)}] 25 %, 500 of about 2000, 1000/s`,
    `[${"#".repeat(15)}${".".repeat(15)}] 50 %, 1000 of about 2000, 2000/s`,
  ]);
});

test("what is said after a bar stands on a line of its own", () => {
  const { report, written } = reportOn({ isTTY: true });
  report.progress(2_000);
  report.say("stopped");
  report.end();
  expect(written.text).toMatch(/\/s\nsessiond: stopped\n$/);
});

test("a bar never wraps, however narrow the terminal", () => {
  const { report, written } = reportOn({ isTTY: true, columns: 20 });
  report.progress(1_000);
  expect(written.text.replace("\r\x1b[2K", "")).toHaveLength(19);
  const unknown = reportOn({ isTTY: true, columns: 0 });
  unknown.report.progress(1_000);
  expect(unknown.written.text).toMatch(/\/s$/);
});

test("a log gets a line every five seconds, and no control characters", () => {
  const { report, written, clock } = reportOn({});
  for (let done = 0; done <= 1_200; done += 100) {
    clock.nowMs = done * 10;
    report.progress(done);
  }
  report.end();
  expect(written.text).toBe(
    "sessiond: 25 %, 500 of about 2000, 100/s\nsessiond: 50 %, 1000 of about 2000, 100/s\n",
  );
});

test("more than was expected is no more than 100 %, and nothing is all of nothing", () => {
  const { report, written, clock } = reportOn({});
  clock.nowMs = 5_000;
  report.progress(3_000);
  expect(written.text).toContain("100 %, 3000 of about 3000");
  const empty = reportOn({ isTTY: true }, 0);
  empty.report.progress(0);
  expect(empty.written.text).toContain("100 %, 0 of about 0");
});
