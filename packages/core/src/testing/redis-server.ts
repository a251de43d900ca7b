import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** How a Redis server for tests is started. */
export interface RedisServerOptions {
  /** More arguments, such as `["--maxmemory", "4mb"]`; they override those of this module. */
  readonly args?: readonly string[];
  /** A free loopback port by default. Give one to start a server again where it was. */
  readonly port?: number;
}

/** A Redis server of one's own, on loopback, gone with the process that started it. */
export interface RedisServer extends AsyncDisposable {
  readonly port: number;
  /** `redis://127.0.0.1:port` */
  readonly url: string;
  readonly pid: number;
  /** Ends the server in order and removes its files. Fine when it has ended already. */
  stop(): Promise<void>;
  /** Ends the server at once, as a crash would, and removes its files. */
  kill(): Promise<void>;
  /** Freezes the server: connections stay open, and nothing answers. */
  pause(): void;
  /** Lets a frozen server go on. */
  resume(): void;
}

const HOST = "127.0.0.1";
const START_TIMEOUT_MS = 10_000;
const STOP_TIMEOUT_MS = 5_000;
/** Another process may take the port between its choice and the start. */
const MAX_PORTS_TRIED = 5;

/**
 * Starts a real `redis-server`, without persistence unless `args` ask for it,
 * and waits until it answers. Throws an Error that says how to install one
 * where there is none.
 */
export async function startRedisServer(options: RedisServerOptions = {}): Promise<RedisServer> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await startOnPort(options.port ?? (await freePort()), options.args ?? []);
    } catch (error) {
      const portTaken = error instanceof Error && error.message.includes("Address already in use");
      if (!portTaken || options.port !== undefined || attempt === MAX_PORTS_TRIED) throw error;
    }
  }
}

async function startOnPort(port: number, args: readonly string[]): Promise<RedisServer> {
  const dir = await mkdtemp(join(tmpdir(), "sessiond-redis-"));
  const defaults = ["--bind", HOST, "--port", `${port}`, "--dir", dir, "--save", ""];
  const child = spawn("redis-server", [...defaults, "--appendonly", "no", ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  // Whoever forgets to stop the server, or is stopped by a failing test, leaves none behind.
  const killOnExit = () => child.kill("SIGKILL");
  process.once("exit", killOnExit);

  const end = async (signal: NodeJS.Signals) => {
    await endProcess(child, signal);
    process.off("exit", killOnExit);
    await rm(dir, { recursive: true, force: true });
  };
  try {
    await answering(child, port);
  } catch (error) {
    await end("SIGKILL");
    throw error;
  }
  const stop = () => end("SIGTERM");
  return {
    port,
    url: `redis://${HOST}:${port}`,
    pid: child.pid ?? -1,
    stop,
    kill: () => end("SIGKILL"),
    pause: () => void child.kill("SIGSTOP"),
    resume: () => void child.kill("SIGCONT"),
    [Symbol.asyncDispose]: stop,
  };
}

/** Returns once the server answers PING. Throws where it ends before, with what it said. */
async function answering(child: ChildProcess, port: number): Promise<void> {
  let output = "";
  let failure: Error | undefined;
  child.stdout?.on("data", (chunk) => {
    output = (output + chunk).slice(-4_000);
  });
  child.stderr?.on("data", (chunk) => {
    output = (output + chunk).slice(-4_000);
  });
  child.once("error", (error: NodeJS.ErrnoException) => {
    failure = error.code === "ENOENT" ? notInstalled() : error;
  });
  const deadlineMs = Date.now() + START_TIMEOUT_MS;
  while (Date.now() < deadlineMs) {
    if (failure) throw failure;
    if (hasEnded(child)) throw new Error(`redis-server did not start:\n${output}`);
    if (child.pid !== undefined && (await answers(port, child.pid))) return;
    await sleep(10);
  }
  throw new Error(`redis-server did not answer within ${START_TIMEOUT_MS} ms:\n${output}`);
}

/** Whether the Redis server at `port` answers and is this process, not another's on the same port. */
async function answers(port: number, pid: number): Promise<boolean> {
  const socket = connect({ port, host: HOST });
  socket.setTimeout(1_000, () => socket.destroy());
  try {
    await once(socket, "connect");
    socket.write("INFO server\r\n");
    let reply = "";
    for await (const chunk of socket) {
      reply += chunk;
      // With a password set this is all it says to us; it is up.
      if (reply.startsWith("-NOAUTH")) return true;
      const found = /^process_id:(\d+)\r$/m.exec(reply);
      if (found) return Number(found[1]) === pid;
      if (reply.startsWith("-")) return false;
    }
    return false;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function endProcess(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.pid === undefined || hasEnded(child)) return;
  const ended = once(child, "exit");
  child.kill(signal);
  // A frozen server ends only once it goes on.
  child.kill("SIGCONT");
  const insist = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
  await ended;
  clearTimeout(insist);
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, HOST);
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("expected a TCP port");
  return address.port;
}

function notInstalled(): Error {
  return new Error(
    "redis-server is not on the PATH. Install it with `apt-get install redis-server` (Debian, " +
      "Ubuntu), `dnf install redis` (Fedora) or `brew install redis` (macOS).",
  );
}
