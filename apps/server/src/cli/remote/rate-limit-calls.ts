import { formatDuration } from "@sessiond/core";
import type { TextOutput } from "../command/command.js";
import { EXIT_FAILURE, EXIT_OK } from "../command/exit-codes.js";
import { writePaced } from "../terminal/paced-output.js";
import { jsonLine } from "../terminal/printable.js";
import { callServer } from "./remote-client.js";
import type { RemoteServer } from "./remote-server.js";

/** Options of `callRateLimits`. */
export interface RateLimitCallOptions {
  readonly action: "check" | "get" | "reset";
  readonly server: RemoteServer;
  readonly policy: string;
  readonly key: string;
  readonly cost: number;
  readonly json: boolean;
  readonly stdout: TextOutput;
  readonly stderr: TextOutput;
}

/**
 * Counts an attempt of a key, asks about it, or forgets the attempts so far. Returns the exit
 * code: 0 if the attempt is allowed or the key is forgotten, 1 if the attempt is
 * refused, the code of `reportFailure` if the call fails.
 */
export function callRateLimits(options: RateLimitCallOptions): Promise<number> {
  const { action, server, policy, key, cost, json, stdout, stderr } = options;
  return callServer(server, ["rate_limits:use"], stderr, async ({ rateLimits }) => {
    if (action === "reset") {
      await rateLimits.reset(policy, key);
      return EXIT_OK;
    }
    const answer = await rateLimits[action](policy, key, { cost });
    const { allowed, limit, remaining, retryAfterMs } = answer;
    const retryAfter = formatDuration(retryAfterMs);
    const facts = `limit ${limit}, remaining ${remaining}, retry after ${retryAfter}`;
    const text = `${allowed ? "allowed" : "refused"}: ${facts}\n`;
    await writePaced(stdout, json ? jsonLine({ policy, key, ...answer }) : text);
    return allowed ? EXIT_OK : EXIT_FAILURE;
  });
}
