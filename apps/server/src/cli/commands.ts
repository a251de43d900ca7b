import type { Config } from "../config/config.js";
import type { Command } from "./command/command.js";
import { keygenCommand } from "./keygen-command.js";
import { keysCommand } from "./keys-command.js";
import { lockCommand } from "./remote/lock-command.js";
import type { LockRunOptions } from "./remote/lock-run.js";
import type { RateLimitCallOptions } from "./remote/rate-limit-calls.js";
import { rateLimitCommand } from "./remote/rate-limit-command.js";
import type { ResealOptions } from "./reseal.js";
import { serveCommand } from "./serve-command.js";
import { tokenCommand } from "./token-command.js";

/** What the commands run, which their files only prepare. */
export interface CommandWork {
  /** Serves until it is told to stop; rejects where it cannot. */
  readonly serve: (config: Config) => Promise<void>;
  /** Seals sessions anew; answers the exit code. Rejects where it cannot. */
  readonly reseal: (options: ResealOptions) => Promise<number>;
  /** Runs a command under a lock of a server; answers the exit code. */
  readonly lockRun: (options: LockRunOptions) => Promise<number>;
  /** Asks a server about a rate limit; answers the exit code. */
  readonly rateLimitCall: (options: RateLimitCallOptions) => Promise<number>;
}

/** The commands by their names. */
export type Commands = ReadonlyMap<string, Command>;

/** Every command, with what it runs. */
export function commandsOf({ serve, reseal, lockRun, rateLimitCall }: CommandWork): Commands {
  return new Map([
    ["serve", serveCommand(serve)],
    ["token", tokenCommand],
    ["keygen", keygenCommand],
    ["keys", keysCommand(reseal)],
    ["lock", lockCommand(lockRun)],
    ["rate-limit", rateLimitCommand(rateLimitCall)],
  ]);
}
