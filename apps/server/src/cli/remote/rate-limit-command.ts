import { ConfigError } from "../../config/config-error.js";
import { parseFlags } from "../../config/flags.js";
import type { Command, CommandContext } from "../command/command.js";
import type { RateLimitCallOptions } from "./rate-limit-calls.js";
import { REMOTE_FLAGS, REMOTE_HELP, remoteServer } from "./remote-server.js";

const USAGE = "sessiond rate-limit check|reset POLICY KEY [flags]";

/** `sessiond rate-limit`: reads the command line, and has the server asked. */
export function rateLimitCommand(
  rateLimitCall: (options: RateLimitCallOptions) => Promise<number>,
): Command {
  return {
    summary: "counts an attempt",
    help,
    run: async (context) => rateLimitCall(parseRateLimitCall(context)),
  };
}

function parseRateLimitCall({ args, env, stdout, stderr }: CommandContext): RateLimitCallOptions {
  const [action, policy = "", key = "", ...flags] = args;
  if (action !== "check" && action !== "reset") {
    throw new ConfigError([`expected ${USAGE}; see: sessiond help rate-limit`]);
  }
  const isMissing = (word: string) => word === "" || word.startsWith("--");
  if (isMissing(policy) || isMissing(key)) {
    const missing = isMissing(policy) ? "POLICY and KEY are" : "the KEY after POLICY is";
    throw new ConfigError([`${missing} missing: ${USAGE}`]);
  }
  const known = action === "check" ? ["cost", ...REMOTE_FLAGS] : REMOTE_FLAGS;
  const { values, faults: flagFaults } = parseFlags(flags, known, args.length - flags.length);
  const faults = [...flagFaults];
  const cost = values.get("cost") ?? "1";
  if (!/^[1-9]\d{0,8}$/.test(cost)) faults.push("--cost: expected a whole number from 1");
  const server = remoteServer(values, env, faults);
  return { action, server, policy, key, cost: Number(cost), stdout, stderr };
}

function help(): string {
  return `Usage: sessiond rate-limit check POLICY KEY [flags]
       sessiond rate-limit reset POLICY KEY [flags]

Counts an attempt of a key, such as an address, under a policy of the server's
SESSIOND_RATE_LIMITS, and says whether it is allowed; or forgets those so far.

Exit codes: 0 when it is allowed (or forgotten), 1 when it is refused, 69 when the
server could not be asked, 2 when this command line is at fault.

  --cost COUNT             how much the attempt counts (check only, default 1)
${REMOTE_HELP}`;
}
