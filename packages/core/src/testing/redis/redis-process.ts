import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { LOOPBACK } from "../network/free-port.js";

/** How a process is started, and started again. */
export interface RedisProcessOptions {
  readonly port: number;
  /** They override those of this module, and `config`. */
  readonly args: readonly string[];
  /** What the server is to rewrite and find again after a restart, as a configuration file. */
  readonly config?: string;
  /** Called whenever it has started, the first time and again. */
  readonly afterStart?: () => Promise<void>;
}

/** What can befall a server that is there to be hurt. */
export type RestartableRedis = Pick<
  RedisProcess,
  "port" | "pid" | "kill" | "pause" | "resume" | "restart"
>;

const CONFIG_FILE = "redis.conf";
const START_TIMEOUT_MS = 10_000;
const STOP_TIMEOUT_MS = 5_000;
const POLL_INTERVAL_MS = 10;
const ANSWER_TIMEOUT_MS = 1_000;
const MAX_OUTPUT_LENGTH = 4_000;

// Whoever forgets to stop a server, or is stopped by a failing test, leaves none behind.
const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/**
 * A `redis-server` with a directory of its own, which it finds again when it is
 * restarted. It writes nothing there unless its arguments ask for it.
 */
export class RedisProcess {
  readonly port: number;
  readonly #dir: string;
  readonly #args: readonly string[];
  readonly #afterStart: () => Promise<void>;
  #child: ChildProcess;
  #frozen = false;

  private constructor(dir: string, { port, args, config, afterStart }: RedisProcessOptions) {
    this.port = port;
    this.#dir = dir;
    this.#args = [
      ...(config === undefined ? [] : [join(dir, CONFIG_FILE)]),
      ...["--bind", LOOPBACK, "--port", `${port}`, "--dir", dir],
      ...["--save", "", "--appendonly", "no", ...args],
    ];
    this.#afterStart = afterStart ?? (async () => {});
    this.#child = spawnRedis(this.#args);
  }

  /** Returns once it answers. Throws an Error with what it said, or how to install it. */
  static async start(options: RedisProcessOptions): Promise<RedisProcess> {
    const dir = await mkdtemp(join(tmpdir(), "sessiond-redis-"));
    if (options.config !== undefined) await writeFile(join(dir, CONFIG_FILE), options.config);
    const redis = new RedisProcess(dir, options);
    try {
      await redis.#started();
    } catch (error) {
      await redis.remove("SIGKILL");
      throw error;
    }
    return redis;
  }

  /** Of the process as it was last started. */
  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** Whether it has neither ended nor been frozen. */
  get isLive(): boolean {
    return !hasEnded(this.#child) && !this.#frozen;
  }

  /** Ends it at once, as a crash would. Its files stay. */
  kill(): Promise<void> {
    return this.#end("SIGKILL");
  }

  /** Freezes it: connections stay open, and nothing answers. */
  pause(): void {
    this.#frozen = this.#child.kill("SIGSTOP");
  }

  /** Lets it go on where it was frozen. */
  resume(): void {
    this.#child.kill("SIGCONT");
    this.#frozen = false;
  }

  /**
   * Starts it again with the same port and files, after ending it in order if it
   * still runs. Without `--appendonly yes` it comes back empty.
   */
  async restart(): Promise<void> {
    await this.#end("SIGTERM");
    this.#child = spawnRedis(this.#args);
    await this.#started();
  }

  /** Ends it and removes its files. Fine when it has ended already. */
  async remove(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    await this.#end(signal);
    await rm(this.#dir, { recursive: true, force: true });
  }

  async #started(): Promise<void> {
    await answering(this.#child, this.port);
    await this.#afterStart();
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    await endProcess(this.#child, signal);
    this.#frozen = false;
  }
}

function spawnRedis(args: readonly string[]): ChildProcess {
  const child = spawn("redis-server", args, { stdio: ["ignore", "pipe", "pipe"] });
  running.add(child);
  // Without a process there is no exit.
  for (const event of ["exit", "error"]) child.once(event, () => running.delete(child));
  return child;
}

/** Returns once the server answers. Throws where it ends before, with what it said. */
async function answering(child: ChildProcess, port: number): Promise<void> {
  let output = "";
  let failure: Error | undefined;
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (chunk) => {
      output = (output + chunk).slice(-MAX_OUTPUT_LENGTH);
    });
  }
  child.once("error", (error: NodeJS.ErrnoException) => {
    failure = error.code === "ENOENT" ? notInstalled() : error;
  });
  const deadlineMs = performance.now() + START_TIMEOUT_MS;
  while (performance.now() < deadlineMs) {
    if (failure) throw failure;
    if (hasEnded(child)) throw new Error(`redis-server did not start:\n${output}`);
    if (child.pid !== undefined && (await answers(port, child.pid))) return;
    await sleep(POLL_INTERVAL_MS);
  }
  throw new Error(`redis-server did not answer within ${START_TIMEOUT_MS} ms:\n${output}`);
}

/** Whether the Redis server at `port` answers and is this process, not another's on the same port. */
async function answers(port: number, pid: number): Promise<boolean> {
  const socket = connect({ port, host: LOOPBACK });
  socket.setTimeout(ANSWER_TIMEOUT_MS, () => socket.destroy());
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

function notInstalled(): Error {
  return new Error(
    "redis-server is not on the PATH. Install it with `apt-get install redis-server` (Debian, " +
      "Ubuntu), `dnf install redis` (Fedora) or `brew install redis` (macOS).",
  );
}
