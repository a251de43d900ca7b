import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createSessionClient, type SessionClient } from "@sessiond/client";
import { freePort } from "@sessiond/core/testing";
import type { SessionData } from "../register.js";

const MAIN = fileURLToPath(new URL("../../../../apps/server/dist/main.js", import.meta.url));
const LOOPBACK = "127.0.0.1";
/** A busy machine may be slow. */
const START_TIMEOUT_MS = 45_000;
const CALL_TIMEOUT_MS = 10_000;

/** A process of `sessiond`, as it was built, on a port that it keeps when it is restarted. */
export interface Sessiond extends AsyncDisposable {
  readonly baseUrl: string;
  /** An access token with every permission. */
  readonly token: string;
  readonly client: SessionClient<SessionData>;
  /** Ends the process at once, as a crash would. Its store stays. */
  kill(): Promise<void>;
  /** Starts it again. */
  start(): Promise<void>;
}

/** Starts a development server with a store of its own. */
export async function startSessiond(
  env: Readonly<Record<string, string>> = {},
  { timeoutMs = CALL_TIMEOUT_MS } = {},
): Promise<Sessiond> {
  const dataDir = await mkdtemp(join(tmpdir(), "sessiond-web-"));
  const address = `${LOOPBACK}:${await freePort()}`;
  const run = () => runSessiond(address, { SESSIOND_DATA_DIR: dataDir, ...env });
  let process = await run();
  const baseUrl = `http://${address}`;
  const client = createSessionClient({ baseUrl, token: process.token, timeoutMs });
  return {
    baseUrl,
    token: process.token,
    client,
    kill: () => process.kill(),
    async start() {
      process = await run();
    },
    async [Symbol.asyncDispose]() {
      client.close();
      await process.kill();
      await rm(dataDir, { recursive: true });
    },
  };
}

/** Returns once the server listens. */
async function runSessiond(address: string, env: Readonly<Record<string, string>>) {
  const addresses = [`--grpc-address=${address}`, `--http-address=${LOOPBACK}:0`];
  const child = spawn(process.execPath, [MAIN, "serve", "--dev", ...addresses], {
    env: { PATH: process.env["PATH"], ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const killOnExit = () => child.kill("SIGKILL");
  process.once("exit", killOnExit);
  const ended = once(child, "exit").then(() => process.off("exit", killOnExit));
  const kill = async () => {
    child.kill("SIGKILL");
    await ended;
  };
  try {
    const [, token = ""] = await printed(child, /^export TOKEN=(.+)$/m);
    return { token, kill };
  } catch (error) {
    await kill();
    throw error;
  }
}

async function printed(child: ChildProcess, pattern: RegExp): Promise<RegExpExecArray> {
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  }
  const deadlineMs = performance.now() + START_TIMEOUT_MS;
  while (performance.now() < deadlineMs && child.exitCode === null) {
    const found = pattern.exec(output);
    if (found !== null) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`sessiond did not start:\n${output}`);
}
