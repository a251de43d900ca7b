import { expect, test } from "vitest";
import { ProgressReport } from "./progress-report.js";

/** A report on 2000 pieces of work unless said otherwise, its text, and its clock. */
function reportOn(output: { isTTY?: boolean; columns?: number }, total = 2_000) {
  const written = { text: "" };
  const clock = { nowMs: 0 };
  const write = (text: string) => {
    written.text += text;
  };
  const report = new ProgressReport({ ...output, write }, total, () => clock.nowMs);
  return { report, written, clock };
}

test("a terminal shows a bar in one line, and text after it in a line of its own", () => {
  const { report, written, clock } = reportOn({ isTTY: true });
  clock.nowMs = 500;
  report.progress(500);
  report.progress(1_000);
  report.say("stopped");
  report.end();
  expect(written.text.split("\r\x1b[2K")).toEqual([
    "",
    `[${"#".repeat(7)}${".".repeat(23)}] 25 %, 500 of about 2000, 1000/s`,
    `[${"#".repeat(15)}${".".repeat(15)}] 50 %, 1000 of about 2000, 2000/s\nsessiond: stopped\n`,
  ]);
});

test.each([
  [20, 19],
  // A terminal that does not know its width. The text is not cut.
  [0, 68],
])("a bar never wraps in a terminal of %i columns", (columns, length) => {
  const { report, written } = reportOn({ isTTY: true, columns });
  report.progress(1_000);
  expect(written.text.replace("\r\x1b[2K", "")).toHaveLength(length);
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

test.each([
  [3_000, 2_000, "100 %, 3000 of about 3000"],
  [0, 0, "100 %, 0 of about 0"],
])("%i done of an estimated %i are never more than 100 %%", (done, total, expected) => {
  const { report, written } = reportOn({ isTTY: true }, total);
  report.progress(done);
  expect(written.text).toContain(expected);
});
