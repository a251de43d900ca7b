import { ConfigError } from "../../config/config-error.js";
import type { Environment } from "../../config/environment.js";
import type { Command } from "../command/command.js";
import { FlagReader } from "../command/flag-reader.js";
import type { RateLimitCallOptions } from "./rate-limit-calls.js";
import { REMOTE_FLAGS, REMOTE_HELP, remoteServer } from "./remote-server.js";

const USAGE = "sessiond rate-limit check|reset POLICY KEY [flags]";

/** `sessiond rate-limit`. `call` returns the exit code. */
export function rateLimitCommand(
  call: (options: RateLimitCallOptions) => Promise<number>,
): Command {
  return {
    summary: "counts an attempt",
    help: () => HELP,
    run: async ({ args, env, stdout, stderr }) =>
      call({ ...parseRateLimitCall(args, env), stdout, stderr }),
  };
}

function parseRateLimitCall(
  args: readonly string[],
  env: Environment,
): Omit<RateLimitCallOptions, "stdout" | "stderr"> {
  const [action, policy = "", key = "", ...flagArgs] = args;
  if (action !== "check" && action !== "reset") {
    throw new ConfigError([`expected ${USAGE}; see: sessiond help rate-limit`]);
  }
  const isMissing = (word: string) => word === "" || word.startsWith("--");
  if (isMissing(policy) || isMissing(key)) {
    const missing = isMissing(policy) ? "POLICY and KEY are" : "the KEY after POLICY is";
    throw new ConfigError([`${missing} missing: ${USAGE}`]);
  }
  const known = action === "check" ? ["cost", ...REMOTE_FLAGS] : REMOTE_FLAGS;
  const flags = new FlagReader(flagArgs, known, args.length - flagArgs.length);
  const cost = flags.read("cost", 1, parseCost);
  return { action, server: remoteServer(flags, env), policy, key, cost };
}

function parseCost(text = "1"): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new Error("expected a whole number from 1");
  return Number(text);
}

const HELP = `Usage: sessiond rate-limit check POLICY KEY [flags]
       sessiond rate-limit reset POLICY KEY [flags]

Counts an attempt of a key, such as an address, under a policy of the server's
SESSIOND_RATE_LIMITS, and says whether it is allowed; or forgets those so far.

Exit codes: 0 when it is allowed (or forgotten), 1 when it is refused, 69 when the
server could not be asked, 2 when this command line is at fault.

  --cost COUNT             how much the attempt counts (check only, default 1)
${REMOTE_HELP}`;
