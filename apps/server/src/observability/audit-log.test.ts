import { readFile, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../testing/temporary-directory.js";
import { recordLog } from "../testing/test-server.js";
import { openAuditLog } from "./audit-log.js";
import { openStdout } from "./logger.js";

const LINES = 60_000;
const PAD = "x".repeat(200);

test("a full disk loses what the queue cannot hold, counts it, and nothing else once there is room", async () => {
  await using directory = await temporaryDirectory();
  const file = join(directory.path, "audit.log");
  await symlink("/dev/full", file);
  const { logger, logs } = recordLog();
  const audit = openAuditLog({ to: { file }, level: "info" }, logger, openStdout());
  let dropped = 0;
  audit?.onDropped(() => dropped++);
  for (let n = 0; n < LINES; n++) audit?.write("info", { n, pad: PAD });
  await expect.poll(() => logs.map(({ msg }) => msg)).toEqual(["the audit cannot be written"]);
  expect(dropped).toBeGreaterThan(0);
  expect(dropped).toBeLessThan(LINES);

  await rm(file);
  audit?.reopen();
  await expect.poll(() => logs.at(-1)).toMatchObject({ level: 40, lines: dropped });
  const lines = (await readFile(file, "utf8")).trimEnd().split("\n");
  expect(lines.map((line) => JSON.parse(line).n)).toEqual([...Array(LINES - dropped).keys()]);
});

test("a file that cannot be opened is an error at once", () => {
  const to = { file: "/dev/null/audit.log" };
  const open = () => openAuditLog({ to, level: "info" }, recordLog().logger, openStdout());
  expect(open).toThrow(/ENOTDIR.*audit\.log/);
});
