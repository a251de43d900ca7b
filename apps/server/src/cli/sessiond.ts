import { readEnvironment } from "../config/environment.js";
import { runCli } from "./cli.js";
import { runReseal } from "./reseal.js";
import { runServer } from "./run-server.js";

/** Runs the command that this process was started with and answers the exit code. */
export function runSessiond(): Promise<number> {
  return runCli({
    argv: process.argv.slice(2),
    env: readEnvironment(),
    stdout: process.stdout,
    stderr: process.stderr,
    serve: runServer,
    reseal: runReseal,
    // A server has no need of the SDK.
    lockRun: async (options) => (await import("./remote/lock-run.js")).runUnderLock(options),
    rateLimitCall: async (options) =>
      (await import("./remote/rate-limit-calls.js")).callRateLimits(options),
  });
}
