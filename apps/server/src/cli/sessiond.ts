import { isPrimary } from "node:cluster";
import { readEnvironment } from "../config/environment.js";
import { loginCommand } from "./access/login-command.js";
import { logoutCommand } from "./access/logout-command.js";
import { type Commands, runCli } from "./cli.js";
import type { Command } from "./command/command.js";
import { completionCommand } from "./completion-command.js";
import { doctorCommand } from "./doctor/doctor-command.js";
import { healthCommand } from "./health-command.js";
import { keygenCommand } from "./keygen-command.js";
import { keysCommand } from "./keys-command.js";
import { lockCommand } from "./remote/lock-command.js";
import { rateLimitCommand } from "./remote/rate-limit-command.js";
import { type RunServer, serveCommand } from "./serve-command.js";
import { sessionsCommand } from "./sessions/sessions-command.js";
import { tokenCommand } from "./token-command.js";

/**
 * The commands of `sessiond`. Each loads the server, the stores or the SDK only when
 * it runs, so that help and a fault in the command line come at once.
 */
export const COMMANDS: Commands = new Map<string, Command>([
  ["serve", serveCommand(runServer)],
  ["health", healthCommand],
  ["token", tokenCommand],
  ["keygen", keygenCommand],
  ["keys", keysCommand(async (options) => (await import("./reseal.js")).runReseal(options))],
  ["doctor", doctorCommand(diagnoseInProcess)],
  [
    "login",
    loginCommand(async (options) => (await import("./access/run-login.js")).runLogin(options)),
  ],
  [
    "logout",
    logoutCommand(async (options) => (await import("./access/run-logout.js")).runLogout(options)),
  ],
  ["sessions", sessionsCommand(callSessionsOfProcess)],
  [
    "lock",
    lockCommand(
      async (options) => (await import("./remote/lock-run.js")).runUnderLock(options),
      async (options) => (await import("./remote/lock-get.js")).getLock(options),
    ),
  ],
  [
    "rate-limit",
    rateLimitCommand(async (options) =>
      (await import("./remote/rate-limit-calls.js")).callRateLimits(options),
    ),
  ],
  ["completion", completionCommand(() => COMMANDS)],
]);

/** Serves in this process, or by several workers: they come here themselves. */
async function runServer(...args: Parameters<RunServer>): Promise<void> {
  const [config] = args;
  if (config.workers > 1 && isPrimary) return (await import("./run-workers.js")).runWorkers(config);
  return (await import("./run-server.js")).runServer(...args);
}

async function callSessionsOfProcess(
  ...[call, outputs]: Parameters<Parameters<typeof sessionsCommand>[0]>
): Promise<number> {
  const { callSessions } = await import("./sessions/session-calls.js");
  const { askOnTerminal } = await import("./terminal/confirmation.js");
  const confirm = process.stdin.isTTY ? askOnTerminal : undefined;
  return callSessions(call, { ...outputs, confirm });
}

async function diagnoseInProcess(
  options: Parameters<Parameters<typeof doctorCommand>[0]>[0],
): Promise<number> {
  const { runDoctor } = await import("./doctor/run-doctor.js");
  if (process.stdout.listenerCount("error") === 0) process.stdout.on("error", () => {});
  return runDoctor(options);
}

/** Runs the command that this process was started with. Returns the exit code. */
export function runSessiond(): Promise<number> {
  // Each write learns of its own failure, such as a pipe that `head` has closed.
  process.stdout.on("error", () => {});
  return runCli(COMMANDS, {
    argv: process.argv.slice(2),
    env: readEnvironment(),
    stdout: process.stdout,
    stderr: process.stderr,
  });
}
