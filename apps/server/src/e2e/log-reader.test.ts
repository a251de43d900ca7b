import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, openSync, writeSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "@sessiond/core/testing";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { mintDevelopmentToken } from "../auth/development-keys.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import { bearer } from "../testing/protocols.js";
import { type ServerProcess, spawnServer, spawnSessiond } from "../testing/server-process.js";

const START_TIMEOUT_MS = 15_000;
/** More than stopping, writing the log and ending may take together. */
const END_TIMEOUT_MS = 10_000;
/** Less than the 10 s that a server which stops gives to the calls under way. */
const SECOND_SIGNAL_MS = 200;
/** What makes a server fail where it does not expect it: SIGUSR2. */
const CRASH_ON_SIGUSR2 = {
  NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(
    'process.on("SIGUSR2", () => { throw new Error("deliberate") })',
  )}`,
};

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sessiond-log-"));
});
afterAll(() => rm(directory, { recursive: true }));

/** A pipe to write a log to, and who reads it: nobody, unless a test does. */
class LogPipe {
  static #count = 0;
  readonly #path: string;
  readonly #reader: number;
  #isRead = true;

  constructor() {
    this.#path = join(directory, `pipe-${LogPipe.#count++}`);
    execFileSync("mkfifo", [this.#path]);
    this.#reader = openSync(this.#path, constants.O_RDONLY | constants.O_NONBLOCK);
  }

  open(): number {
    return openSync(this.#path, constants.O_WRONLY | constants.O_NONBLOCK);
  }

  /** Leaves no room for another byte. */
  fill(): void {
    const writer = this.open();
    try {
      for (const bytes of [4096, 1]) writeUntilFull(writer, Buffer.alloc(bytes));
    } finally {
      closeSync(writer);
    }
  }

  /** From now on whoever writes gets EPIPE. */
  loseReader(): void {
    if (this.#isRead) closeSync(this.#reader);
    this.#isRead = false;
  }

  [Symbol.dispose](): void {
    this.loseReader();
  }
}

function writeUntilFull(writer: number, bytes: Buffer): void {
  try {
    for (;;) writeSync(writer, bytes);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
  }
}

type HttpServerProcess = ServerProcess & { readonly httpUrl: string };

/** A development server that writes its welcome and its log to the pipe, and serves. */
async function startWith(pipe: LogPipe, onSpawn = () => {}): Promise<HttpServerProcess> {
  const httpAddress = `127.0.0.1:${await freePort()}`;
  const addresses = ["--grpc-address", "127.0.0.1:0", "--http-address", httpAddress];
  const flags = [...addresses, "--store", "sqlite::memory:", "--data-dir", directory];
  const stdout = pipe.open();
  const server = spawnSessiond(["serve", ...flags], { stdout, env: CRASH_ON_SIGUSR2 });
  closeSync(stdout);
  onSpawn();
  const serving = Object.assign(server, { httpUrl: `http://${httpAddress}` });
  try {
    await vi.waitFor(() => expectServing(serving), { timeout: START_TIMEOUT_MS, interval: 20 });
    return serving;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

async function credentials(): Promise<{ readonly authorization: string }> {
  const permissions = KNOWN_PERMISSIONS;
  const token = { dataDir: directory, permissions, subject: "log-reader", ttlMs: 60_000 };
  return bearer(await mintDevelopmentToken(token));
}

async function expectServing({ httpUrl }: HttpServerProcess): Promise<void> {
  const response = await fetch(`${httpUrl}/sessiond.v1.SessionService/CountSessions`, {
    method: "POST",
    headers: { "content-type": "application/json", ...(await credentials()) },
    body: "{}",
    signal: AbortSignal.timeout(5_000),
  });
  expect(response.status).toBe(200);
}

/** A call of which the server waits for the rest. */
async function beginCall({ httpUrl }: HttpServerProcess): Promise<Disposable> {
  const { hostname, port } = new URL(httpUrl);
  const socket = connect(Number(port), hostname).on("error", () => {});
  await once(socket, "connect");
  const { authorization } = await credentials();
  const head = [
    "POST /sessiond.v1.SessionService/CountSessions HTTP/1.1",
    `host: ${hostname}`,
    `authorization: ${authorization}`,
    "content-type: application/json",
    "content-length: 2",
  ];
  socket.write(`${head.join("\r\n")}\r\n\r\n{`);
  await sleep(SECOND_SIGNAL_MS);
  return { [Symbol.dispose]: () => void socket.destroy() };
}

async function endOf(
  server: ServerProcess,
  timeoutMs = END_TIMEOUT_MS,
): Promise<number | NodeJS.Signals> {
  const giveUp = new AbortController();
  const tooLate = sleep(timeoutMs, undefined, { signal: giveUp.signal }).then(() => {
    throw new Error(`the server still runs after ${timeoutMs} ms`);
  });
  try {
    return await Promise.race([server.ended, tooLate]);
  } finally {
    tooLate.catch(() => {});
    giveUp.abort();
  }
}

/** What becomes of a log that nobody takes. Each leaves the pipe so that no byte can be written. */
const READERS = [
  ["went away before it started", (pipe: LogPipe) => startWith(pipe, () => pipe.loseReader())],
  [
    "went away while it served",
    async (pipe: LogPipe) => {
      const server = await startWith(pipe);
      pipe.loseReader();
      return server;
    },
  ],
  [
    "reads no more",
    (pipe: LogPipe) => {
      pipe.fill();
      return startWith(pipe);
    },
  ],
] as const;

describe.each(READERS)("a server whose log's reader %s", (_, start) => {
  test("goes on serving, and exits with 0 on SIGTERM", async () => {
    using pipe = new LogPipe();
    await using server = await start(pipe);
    for (let call = 0; call < 3; call++) {
      await expectServing(server);
      // Long enough for the log to be written, or to fail to be.
      await sleep(150);
    }
    server.kill("SIGTERM");
    expect(await endOf(server)).toBe(0);
    expect(server.stderr).toBe("");
  });

  test("ends on a second SIGTERM, whatever is under way", async () => {
    using pipe = new LogPipe();
    await using server = await start(pipe);
    await expectServing(server);
    using _ = await beginCall(server);
    server.kill("SIGTERM");
    await sleep(SECOND_SIGNAL_MS);
    server.kill("SIGTERM");
    expect(await endOf(server)).toBe(1);
  });

  test("exits with 1 when it crashes", async () => {
    using pipe = new LogPipe();
    await using server = await start(pipe);
    await expectServing(server);
    server.kill("SIGUSR2");
    expect(await endOf(server)).toBe(1);
  });
});

describe("a server whose log is read", () => {
  test("says why it crashed before it exits with 1", async () => {
    const flags = ["--store", "sqlite::memory:", "--data-dir", directory];
    await using server = await spawnServer({ flags, env: CRASH_ON_SIGUSR2 });
    server.kill("SIGUSR2");
    expect(await endOf(server)).toBe(1);
    expect(server.logs.at(-1)).toMatchObject({
      level: 60,
      msg: "uncaughtException",
      err: { message: "deliberate" },
    });
  });

  test("has all of it when it could not start", async () => {
    const redis = `redis://127.0.0.1:${await freePort()}`;
    const flags = ["--store", redis, "--data-dir", directory, "--http-address", "127.0.0.1:0"];
    await using blocker = await spawnServer({
      flags: ["--store", "sqlite::memory:"],
      cwd: directory,
    });
    await using server = spawnSessiond(["serve", "--grpc-address", blocker.grpcAddress, ...flags]);
    expect(await endOf(server, START_TIMEOUT_MS + END_TIMEOUT_MS)).toBe(1);
    expect(server.logs.map(({ msg }) => msg)).toContain("redis connection failed");
  });
});
