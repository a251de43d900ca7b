import cluster from "node:cluster";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { temporaryDirectory } from "../testing/temporary-directory.js";
import { WorkerPool } from "./worker-pool.js";

/** A worker that serves nothing, and ends when it is told to. */
const WORKER = `
process.on("message", ({ sessiond }) => sessiond === "stop" && process.exit());
process.send({ sessiond: "serving" });
`;
const { execPath } = process;
/** With the first program Node emits an error, and with the second it throws one. */
const UNSTARTABLE = ["/none", "/dev/null/none"];
const lines: { readonly msg: string }[] = [];
const logger = pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) });
const linesOf = (message: string) => lines.filter(({ msg }) => msg === message);

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
beforeAll(async () => {
  directory = await temporaryDirectory();
  const exec = join(directory.path, "worker.js");
  await writeFile(exec, WORKER);
  cluster.setupPrimary({ exec, execArgv: [], args: [] });
});
afterAll(() => directory[Symbol.asyncDispose]());
afterEach(() => {
  process.execPath = execPath;
});

test("a server that cannot start a worker says so, instead of waiting for ever", async () => {
  process.execPath = "/none";
  const pool = new WorkerPool(1, logger);
  await expect(pool.start()).rejects.toThrow("a worker could not start");
  await pool.stop();
});

test.each(UNSTARTABLE)(
  "a worker is replaced once the system can start one: %s",
  async (program) => {
    const pool = new WorkerPool(1, logger);
    await pool.start();
    lines.length = 0;
    process.execPath = program;
    for (const worker of Object.values(cluster.workers ?? {})) worker?.process.kill("SIGKILL");
    await vi.waitUntil(() => linesOf("worker ended").length > 1);
    process.execPath = execPath;
    await vi.waitUntil(() => linesOf("worker started").length === 1, { timeout: 5_000 });
    await pool.stop();
  },
);
