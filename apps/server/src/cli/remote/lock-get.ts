import type { LockState } from "@sessiond/client";
import type { TextOutput } from "../command/command.js";
import { EXIT_FAILURE, EXIT_OK } from "../command/exit-codes.js";
import { writePaced } from "../terminal/paced-output.js";
import { jsonLine } from "../terminal/printable.js";
import { relativeTime } from "../terminal/relative-time.js";
import { callServer } from "./remote-client.js";
import type { RemoteServer } from "./remote-server.js";

/** Options of `getLock`. */
export interface LockGetOptions {
  readonly server: RemoteServer;
  readonly name: string;
  readonly json: boolean;
  readonly stdout: TextOutput;
  readonly stderr: TextOutput;
}

/**
 * Says whether anybody holds a lock. Returns the exit code: 0 if so, 1 if the lock is free, the
 * code of `reportFailure` if the call fails.
 */
export function getLock(options: LockGetOptions): Promise<number> {
  const { server, name, json, stdout, stderr } = options;
  return callServer(server, ["locks:use"], stderr, async ({ locks }) => {
    const lock = await locks.get(name);
    await writePaced(stdout, json ? jsonOf(name, lock) : textOf(lock));
    return lock === undefined ? EXIT_FAILURE : EXIT_OK;
  });
}

function jsonOf(name: string, lock: LockState | undefined): string {
  const facts = lock && { fencingToken: lock.fencingToken, expireTime: lock.expireTime };
  return jsonLine({ name, held: lock !== undefined, ...facts });
}

function textOf(lock: LockState | undefined): string {
  if (lock === undefined) return "free\n";
  const until = `${lock.expireTime.toISOString()} (${relativeTime(lock.expireTime, Date.now())})`;
  return `held with fencing token ${lock.fencingToken} until ${until}\n`;
}
