import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const LOGGER = new URL("../../dist/observability/logger.js", import.meta.url).href;

test("a line begins with its time, and has the level by name", async () => {
  const log = `
    import { createLogger, flushLog } from ${JSON.stringify(LOGGER)};
    const logger = createLogger("trace");
    logger.trace("one");
    logger.child({ caller: "billing" }).fatal({ n: 2 }, "two");
    await flushLog(logger, 1_000);
  `;
  const args = ["--input-type=module", "--eval", log];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  const time = '"time":"\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z"';
  const one = `\\{${time},"level":"trace","msg":"one"\\}\n`;
  const two = `\\{${time},"level":"fatal","caller":"billing","n":2,"msg":"two"\\}\n`;
  expect(stdout).toMatch(new RegExp(`^${one}${two}$`));
});

/** Logs more than may wait, and a line of its own once all that waited is written. */
const TOO_MUCH = `
  import { createLogger, flushLog } from ${JSON.stringify(LOGGER)};
  const logger = createLogger("info");
  for (let i = 0; i < 20_000; i++) logger.info({ pad: "x".repeat(1000) }, "line");
  for (let i = 0; i < 10; i++) await flushLog(logger, 1_000);
  logger.info("after");
  await flushLog(logger, 1_000);
`;

test("lines that are dropped because their reader is too slow are counted in the log", async () => {
  const { stdout } = await promisify(execFile)(
    "bash",
    ["-c", '"$0" --input-type=module --eval "$1" | (sleep 1; cat)', process.execPath, TOO_MUCH],
    { maxBuffer: 64 * 1024 * 1024 },
  );
  const lines = stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  const written = lines.filter(({ msg }) => msg === "line").length;
  const warning = lines.find(({ level }) => level === "warn");
  expect(warning).toMatchObject({ lines: 20_000 - written });
  expect(written).toBeLessThan(20_000);
  expect(lines.at(-1)).toMatchObject({ msg: "after" });
});
