import { SessiondError } from "@sessiond/client";
import { formatDuration } from "@sessiond/core";
import type { TextOutput } from "../command/command.js";
import { EXIT_FAILURE, EXIT_OK } from "../command/exit-codes.js";
import { jsonLine } from "../terminal/printable.js";
import { connectTo, reportFailure } from "./remote-client.js";
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
export async function callRateLimits(options: RateLimitCallOptions): Promise<number> {
  const { action, policy, key, cost, json, stdout, stderr } = options;
  using client = connectTo(options.server, ["rate_limits:use"]);
  try {
    if (action === "reset") {
      await client.rateLimits.reset(policy, key);
      return EXIT_OK;
    }
    const answer = await client.rateLimits[action](policy, key, { cost });
    if (json) stdout.write(jsonLine({ policy, key, ...answer }));
    const { allowed, limit, remaining, retryAfterMs } = answer;
    const retryAfter = formatDuration(retryAfterMs);
    const facts = `limit ${limit}, remaining ${remaining}, retry after ${retryAfter}`;
    if (!json) stdout.write(`${allowed ? "allowed" : "refused"}: ${facts}\n`);
    return allowed ? EXIT_OK : EXIT_FAILURE;
  } catch (error) {
    if (error instanceof SessiondError) return reportFailure(error, options.server, stderr);
    throw error;
  }
}
