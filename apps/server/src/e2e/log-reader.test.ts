import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { closeSync, constants, openSync, writeSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "@sessiond/core/testing";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { bearer } from "../testing/protocols.js";
import {
  developmentToken,
  type ServerProcess,
  spawnServer,
  spawnSessiond,
} from "../testing/server-process.js";
import { temporaryDirectory } from "../testing/temporary-directory.js";
import { within } from "../testing/within.js";

const COUNT_SESSIONS = "/sessiond.v1.SessionService/CountSessions";
const START_TIMEOUT_MS = 15_000;
/** More than stopping, writing the log and ending may take together. */
const END_TIMEOUT_MS = 10_000;
/** Less than the 10 s that a server which stops gives to the calls under way. */
const SECOND_SIGNAL_MS = 200;
/** Makes a server fail where it does not expect it: on SIGUSR2. */
const CRASH_ON_SIGUSR2 = {
  NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(
    'process.on("SIGUSR2", () => { throw new Error("deliberate") })',
  )}`,
};

let directory: string;
let headers: Readonly<Record<string, string>>;
const opened = new AsyncDisposableStack();
beforeAll(async () => {
  directory = opened.use(await temporaryDirectory()).path;
  headers = { "content-type": "application/json", ...bearer(await developmentToken(directory)) };
});
afterAll(() => opened.disposeAsync());

/** A pipe to write a log to. Nobody reads it, and from `loseReader` on writing to it is EPIPE. */
function openPipe() {
  const path = join(directory, randomUUID());
  execFileSync("mkfifo", [path]);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  return { writer, loseReader: () => closeSync(reader) };
}

/** Leaves no room for another byte. */
function fill(writer: number): void {
  for (const bytes of [4096, 1]) {
    try {
      for (;;) writeSync(writer, Buffer.alloc(bytes));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
    }
  }
}

type HttpServerProcess = ServerProcess & { readonly httpUrl: string };

/** A development server that writes its welcome and its log to a pipe, and serves. */
async function startWith(writer: number, onSpawn = () => {}): Promise<HttpServerProcess> {
  const httpAddress = `127.0.0.1:${await freePort()}`;
  const addresses = ["--grpc-address", "127.0.0.1:0", "--http-address", httpAddress];
  const args = [
    "serve",
    "--dev",
    ...addresses,
    "--store",
    "sqlite::memory:",
    "--data-dir",
    directory,
  ];
  const process = spawnSessiond(args, { stdout: writer, env: CRASH_ON_SIGUSR2 });
  closeSync(writer);
  onSpawn();
  const server = Object.assign(process, { httpUrl: `http://${httpAddress}` });
  try {
    await vi.waitFor(() => expectServing(server), { timeout: START_TIMEOUT_MS, interval: 20 });
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

async function expectServing({ httpUrl }: HttpServerProcess): Promise<void> {
  const signal = AbortSignal.timeout(5_000);
  const call = { method: "POST", headers, body: "{}", signal };
  expect((await fetch(httpUrl + COUNT_SESSIONS, call)).status).toBe(200);
}

/** Begins a call whose rest the server waits for. */
async function beginCall({ httpUrl }: HttpServerProcess): Promise<Disposable> {
  const { hostname, port } = new URL(httpUrl);
  const socket = connect(Number(port), hostname).on("error", () => {});
  await once(socket, "connect");
  const fields = Object.entries({ host: hostname, ...headers, "content-length": "2" });
  const head = fields.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  socket.write(`POST ${COUNT_SESSIONS} HTTP/1.1\r\n${head}\r\n{`);
  await sleep(SECOND_SIGNAL_MS);
  return { [Symbol.dispose]: () => void socket.destroy() };
}

type Pipe = ReturnType<typeof openPipe>;

/** What becomes of a log that nobody takes: not a byte of it can be written. */
const READERS: readonly [reader: string, start: (pipe: Pipe) => Promise<HttpServerProcess>][] = [
  ["went away before it started", ({ writer, loseReader }) => startWith(writer, loseReader)],
  [
    "went away while it served",
    async ({ writer, loseReader }) => {
      const server = await startWith(writer);
      loseReader();
      return server;
    },
  ],
  [
    "reads no more",
    ({ writer }) => {
      fill(writer);
      return startWith(writer);
    },
  ],
];

describe.each(READERS)("a server whose log's reader %s", (_, start) => {
  test("goes on serving, and exits with 0 on SIGTERM", async () => {
    await using server = await start(openPipe());
    for (let call = 0; call < 3; call++) {
      await expectServing(server);
      // Long enough for the log to be written, or to fail to be.
      await sleep(150);
    }
    server.kill("SIGTERM");
    expect(await within(END_TIMEOUT_MS, server.ended)).toBe(0);
    expect(server.stderr).toBe("");
  });

  test("ends on a second SIGTERM, whatever is under way", async () => {
    await using server = await start(openPipe());
    using _ = await beginCall(server);
    server.kill("SIGTERM");
    await sleep(SECOND_SIGNAL_MS);
    server.kill("SIGTERM");
    expect(await within(END_TIMEOUT_MS, server.ended)).toBe(1);
  });

  test("exits with 1 when it crashes", async () => {
    await using server = await start(openPipe());
    await expectServing(server);
    server.kill("SIGUSR2");
    expect(await within(END_TIMEOUT_MS, server.ended)).toBe(1);
  });
});

test("a server whose log is read says why it crashed before it exits with 1", async () => {
  const flags = ["--dev", "--store", "sqlite::memory:", "--data-dir", directory];
  await using server = await spawnServer({ flags, env: CRASH_ON_SIGUSR2 });
  server.kill("SIGUSR2");
  expect(await within(END_TIMEOUT_MS, server.ended)).toBe(1);
  const err = { message: "deliberate" };
  expect(server.logs.at(-1)).toMatchObject({ level: "fatal", msg: "uncaughtException", err });
});

test("a server whose log is read has all of it when it could not start", async () => {
  await using blocker = await spawnServer({
    flags: ["--dev", "--store", "sqlite::memory:"],
    cwd: directory,
  });
  const store = `redis://127.0.0.1:${await freePort()}`;
  const addresses = ["--grpc-address", blocker.grpcAddress, "--http-address", "127.0.0.1:0"];
  const flags = [...addresses, "--store", store, "--data-dir", directory];
  await using server = spawnSessiond(["serve", "--dev", ...flags]);
  expect(await within(START_TIMEOUT_MS + END_TIMEOUT_MS, server.ended)).toBe(1);
  expect(server.logs.map(({ msg }) => msg)).toContain("redis connection failed");
});
