import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { LogLine } from "./test-server.js";

const MAIN = fileURLToPath(new URL("../../dist/main.js", import.meta.url));
const OUTPUT_TIMEOUT_MS = 20_000;

/** How `spawnServer` runs the server. */
export interface ServerProcessOptions {
  /** Flags of `sessiond serve`, besides the addresses. */
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** The working directory. */
  readonly cwd?: string;
  /** A file descriptor to write to, instead of a pipe that is read here. */
  readonly stdout?: number;
}

/** A server in a process of its own, as it was built. Killed when disposed of. */
export interface ServerProcess extends AsyncDisposable {
  readonly pid: number;
  /** What it has written so far, as far as it is read here. */
  readonly stdout: string;
  readonly stderr: string;
  /** Those lines of `stdout` that are the log's. */
  readonly logs: readonly LogLine[];
  /** How it ended: its exit code, or the signal that killed it. */
  readonly ended: Promise<number | NodeJS.Signals>;
  kill(signal: NodeJS.Signals): void;
  /** Resolves with the first line of the log that has this message. Rejects where none comes. */
  logged(message: string): Promise<LogLine>;
  /** Resolves once `stdout` matches. Rejects where it does not come to that. */
  printed(pattern: RegExp): Promise<void>;
}

/** A server process that listens, and where. */
export interface ListeningServerProcess extends ServerProcess {
  readonly grpcAddress: string;
  readonly grpcUrl: string;
  readonly httpUrl: string;
}

/** Runs `sessiond` with these arguments. */
export function spawnSessiond(
  args: readonly string[],
  { env = {}, cwd, stdout }: ServerProcessOptions = {},
): ServerProcess {
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd,
    env: { PATH: process.env["PATH"], HOME: process.env["HOME"], ...env },
    stdio: ["ignore", stdout ?? "pipe", "pipe"],
  });
  // Whatever becomes of the tests, they leave no server behind.
  const killOnExit = () => child.kill("SIGKILL");
  process.once("exit", killOnExit);
  const ended = endOf(child).finally(() => process.off("exit", killOnExit));
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name]?.setEncoding("utf8").on("data", (text: string) => {
      output[name] += text;
    });
  }
  const server: ServerProcess = {
    pid: child.pid ?? -1,
    get stdout() {
      return output.stdout;
    },
    get stderr() {
      return output.stderr;
    },
    get logs() {
      return logLines(output.stdout);
    },
    ended,
    kill: (signal) => void child.kill(signal),
    logged: async (message) => {
      const isIt = ({ msg }: LogLine) => msg === message;
      await waitForOutput(child, server, () => server.logs.some(isIt));
      return server.logs.find(isIt) ?? {};
    },
    printed: (pattern) => waitForOutput(child, server, () => pattern.test(output.stdout)),
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      await ended;
    },
  };
  return server;
}

/** Runs `sessiond serve` on ports of its own and waits until it listens. */
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

async function endOf(child: ChildProcess): Promise<number | NodeJS.Signals> {
  // Not "exit", after which output may still come.
  const [code, signal] = await once(child, "close");
  return signal ?? code;
}

async function waitForOutput(
  child: ChildProcess,
  server: ServerProcess,
  isThere: () => boolean,
): Promise<void> {
  const giveUp = new AbortController();
  const timeout = setTimeout(() => giveUp.abort(), OUTPUT_TIMEOUT_MS);
  server.ended.then(() => giveUp.abort());
  try {
    while (!isThere() && child.stdout !== null) {
      await once(child.stdout, "data", { signal: giveUp.signal });
    }
  } catch {
    if (!isThere()) throw new Error(`this is all there is:\n${server.stdout}${server.stderr}`);
  } finally {
    clearTimeout(timeout);
  }
}

function logLines(stdout: string): LogLine[] {
  const complete = stdout.slice(0, stdout.lastIndexOf("\n") + 1);
  return complete
    .split("\n")
    .filter((line) => line.startsWith('{"level"'))
    .map((line) => JSON.parse(line));
}
