import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { vi } from "vitest";
import { mintDevelopmentToken } from "../auth/development-keys.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import type { LogLine, TestServer } from "./test-server.js";

const MAIN = fileURLToPath(new URL("../../dist/main.js", import.meta.url));
const OUTPUT_TIMEOUT_MS = 20_000;

/** How a test runs `sessiond`. */
export interface ServerProcessOptions {
  /** Flags of `sessiond serve`, besides the addresses. */
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** The file of the program; the built one by default. */
  readonly main?: string;
  /** The working directory. */
  readonly cwd?: string;
  /** How long the test waits for output; 20 s by default. */
  readonly outputTimeoutMs?: number;
  /** How many file descriptors the process may have. */
  readonly maxFiles?: number;
  /** A file descriptor to write to, instead of a pipe that is read here. */
  readonly stdout?: number;
}

/** A process of `sessiond`, as it was built. Killed when disposed of. */
export interface ServerProcess extends AsyncDisposable {
  readonly pid: number;
  /** What it has written so far, unless it writes to a file descriptor of the test. */
  readonly stdout: string;
  readonly stderr: string;
  /** The lines of its log so far. */
  readonly logs: readonly LogLine[];
  /** The lines of its audit so far, if that goes to stdout. */
  readonly audit: readonly LogLine[];
  /** How it ended: its exit code, or the signal that killed it. */
  readonly ended: Promise<number | NodeJS.Signals>;
  kill(signal: NodeJS.Signals): void;
  /** Resolves with the first line of the log that has this message. Rejects if none comes. */
  logged(message: string): Promise<LogLine>;
  /** Resolves once `stdout` matches. Rejects if it never does. */
  printed(pattern: RegExp): Promise<void>;
}

/** A server process that listens. */
export type ListeningServerProcess = ServerProcess &
  Pick<TestServer, "grpcAddress" | "grpcUrl" | "httpUrl">;

/** Runs `sessiond` with these arguments. */
export function spawnSessiond(
  args: readonly string[],
  {
    env = {},
    cwd,
    stdout,
    maxFiles,
    main = MAIN,
    outputTimeoutMs = OUTPUT_TIMEOUT_MS,
  }: ServerProcessOptions = {},
): ServerProcess {
  const command = [process.execPath, main, ...args];
  const [program = "", ...rest] =
    maxFiles === undefined
      ? command
      : ["sh", "-c", 'ulimit -n "$0" && exec "$@"', String(maxFiles), ...command];
  const child = spawn(program, rest, {
    cwd,
    env: { PATH: process.env["PATH"], HOME: process.env["HOME"], ...env },
    stdio: ["ignore", stdout ?? "pipe", "pipe"],
  });
  // Tests leave no server behind, even if they are broken off.
  const killOnExit = () => child.kill("SIGKILL");
  process.once("exit", killOnExit);
  // Not "exit", after which output may still come.
  const ended = once(child, "close").then(([code, signal]) => {
    process.off("exit", killOnExit);
    return signal ?? code;
  });
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name]?.setEncoding("utf8").on("data", (text: string) => {
      output[name] += text;
    });
  }
  const server: ServerProcess = {
    pid: child.pid ?? 0,
    get stdout() {
      return output.stdout;
    },
    get stderr() {
      return output.stderr;
    },
    get logs() {
      return logLines(output.stdout).filter(({ log }) => log !== "audit");
    },
    get audit() {
      return logLines(output.stdout).filter(({ log }) => log === "audit");
    },
    ended,
    kill: (signal) => void child.kill(signal),
    logged: async (message) => {
      const find = () => server.logs.find(({ msg }) => msg === message);
      await waitForOutput(server, () => find() !== undefined, outputTimeoutMs);
      return find() ?? {};
    },
    printed: (pattern) => waitForOutput(server, () => pattern.test(output.stdout), outputTimeoutMs),
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      await ended;
    },
  };
  return server;
}

/** An access token with every permission, for the servers that have this data directory. */
export function developmentToken(dataDir: string, subject = "test"): Promise<string> {
  const permissions = KNOWN_PERMISSIONS;
  return mintDevelopmentToken({ dataDir, permissions, subject, ttlMs: 600_000 });
}

/** Runs `sessiond serve` on free ports and waits until it listens. */
export async function spawnServer(
  options: ServerProcessOptions = {},
): Promise<ListeningServerProcess> {
  const addresses = ["--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"];
  const server = spawnSessiond(["serve", ...addresses, ...(options.flags ?? [])], options);
  try {
    const { grpc_address, http_address } = await server.logged("listening");
    return Object.defineProperties(server, {
      grpcAddress: { value: grpc_address },
      grpcUrl: { value: `http://${grpc_address}` },
      httpUrl: { value: `http://${http_address}` },
    }) as ListeningServerProcess;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

/** Waits for something that the server writes, as long as it runs. */
async function waitForOutput(
  server: ServerProcess,
  isThere: () => boolean,
  timeout: number,
): Promise<void> {
  const isOver = { timeout, interval: 20 };
  await Promise.race([server.ended, vi.waitUntil(isThere, isOver).catch(() => {})]);
  if (!isThere()) throw new Error(`this is all there is:\n${server.stdout}${server.stderr}`);
}

function logLines(stdout: string): LogLine[] {
  const lines = stdout.match(/^\{"time".*(?=\n)/gm) ?? [];
  return lines.map((line) => JSON.parse(line));
}
