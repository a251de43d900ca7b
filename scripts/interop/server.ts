import { execFileSync, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";

const SESSIOND = "apps/server/dist/main.js";
const SERVE = [
  ...["serve", "--dev", "--store", "sqlite::memory:"],
  ...["--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"],
];
const PERMISSIONS = "sessions:create,sessions:read,sessions:update,sessions:delete";

/** A server process. It ends when it is disposed of, and with this process at the latest. */
export interface Server extends Disposable {
  readonly grpcAddress: string;
  /** An access token that permits everything about sessions. */
  readonly token: string;
}

/** Starts the built server, with development keys in `dataDir`, and waits until it listens. */
export async function startServer(dataDir: string, flags: readonly string[] = []): Promise<Server> {
  const env = { PATH: process.env["PATH"], HOME: process.env["HOME"], SESSIOND_DATA_DIR: dataDir };
  const server = spawn(process.execPath, [SESSIOND, ...SERVE, ...flags], {
    env,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const stop = () => server.kill();
  process.once("exit", stop);
  const grpcAddress = await listeningAddress(server.stdout);
  const token = execFileSync(process.execPath, [SESSIOND, "token", "--permissions", PERMISSIONS], {
    env,
    encoding: "utf8",
  }).trim();
  return { grpcAddress, token, [Symbol.dispose]: stop };
}

/** Reads the log up to the line that says where the server listens. */
async function listeningAddress(log: Readable): Promise<string> {
  for await (const line of createInterface({ input: log })) {
    const [, address] = /"grpc_address":"([^"]+)"/.exec(line) ?? [];
    if (address !== undefined) {
      // A full pipe would stop the server.
      log.resume();
      return address;
    }
  }
  throw new Error("expected the server to listen, but it ended");
}
