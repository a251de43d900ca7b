import { SessiondError } from "@sessiond/client";
import { formatDuration } from "@sessiond/core";
import { EXIT_FAILURE, EXIT_OK } from "../command/exit-codes.js";
import type { ReportOutput } from "../command/progress-report.js";
import { connectTo, reportFailure } from "./remote-client.js";
import type { RemoteServer } from "./remote-server.js";

/** What `sessiond rate-limit` works with. */
export interface RateLimitCallOptions {
  readonly action: "check" | "reset";
  readonly server: RemoteServer;
  readonly policy: string;
  readonly key: string;
  readonly cost: number;
  readonly stdout: Pick<ReportOutput, "write">;
  readonly stderr: Pick<ReportOutput, "write">;
}

/**
 * Counts an attempt, or forgets those of a key. Answers 0 where the attempt is
 * allowed or the key is forgotten, 1 where it is refused, and what
 * `reportFailure` has where there is no answer.
 */
export async function callRateLimits(options: RateLimitCallOptions): Promise<number> {
  const { action, policy, key, cost, stdout, stderr } = options;
  using client = connectTo(options.server, "rate_limits:use");
  try {
    if (action === "reset") {
      await client.rateLimits.reset(policy, key);
      return EXIT_OK;
    }
    const answer = await client.rateLimits.check(policy, key, { cost });
    const { allowed, limit, remaining, retryAfterMs } = answer;
    const retryAfter = formatDuration(retryAfterMs);
    const facts = `limit ${limit}, remaining ${remaining}, retry after ${retryAfter}`;
    stdout.write(`${allowed ? "allowed" : "refused"}: ${facts}\n`);
    return allowed ? EXIT_OK : EXIT_FAILURE;
  } catch (error) {
    if (error instanceof SessiondError) return reportFailure(error, options.server, stderr);
    throw error;
  }
}
