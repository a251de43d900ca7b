import { SessiondError } from "@sessiond/client";
import type { TextOutput } from "../command/command.js";
import { EXIT_FAILURE, EXIT_OK } from "../command/exit-codes.js";
import { jsonLine } from "../terminal/printable.js";
import { relativeTime } from "../terminal/relative-time.js";
import { connectTo, reportFailure } from "./remote-client.js";
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
export async function getLock(options: LockGetOptions): Promise<number> {
  const { name, json, stdout, stderr } = options;
  using client = connectTo(options.server, ["locks:use"]);
  try {
    const lock = await client.locks.get(name);
    const facts = lock && { fencingToken: lock.fencingToken, expireTime: lock.expireTime };
    if (json) stdout.write(jsonLine({ name, held: lock !== undefined, ...facts }));
    else if (lock === undefined) stdout.write("free\n");
    else {
      const until = `${lock.expireTime.toISOString()} (${relativeTime(lock.expireTime, Date.now())})`;
      stdout.write(`held with fencing token ${lock.fencingToken} until ${until}\n`);
    }
    return lock === undefined ? EXIT_FAILURE : EXIT_OK;
  } catch (error) {
    if (error instanceof SessiondError) return reportFailure(error, options.server, stderr);
    throw error;
  }
}
