import { type ChildProcess, type ForkOptions, fork, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const RUN_SOURCES = ["--import", new URL("./resolve-sources.ts", import.meta.url).href];

/** Runs a TypeScript file in a Node process of its own, without a build. What it prints is piped. */
export function spawnTypeScript(file: URL, args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [...RUN_SOURCES, fileURLToPath(file), ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
}

/** Runs a TypeScript file in a Node process of its own, with which messages can be exchanged. */
export function forkTypeScript(
  file: URL,
  args: readonly string[],
  options: ForkOptions,
): ChildProcess {
  return fork(fileURLToPath(file), args, { ...options, execArgv: RUN_SOURCES });
}
