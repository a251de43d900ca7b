import { didYouMean } from "../../config/closest-name.js";
import { ConfigError } from "../../config/config-error.js";
import type { Environment } from "../../config/environment.js";
import { parseCount } from "../../config/quantity.js";
import type { Command } from "../command/command.js";
import { FlagReader } from "../command/flag-reader.js";
import type { RateLimitCallOptions } from "./rate-limit-calls.js";
import { REMOTE_FLAGS, REMOTE_HELP, remoteServer } from "./remote-server.js";

const USAGE = "sessiond rate-limit check|get|reset POLICY KEY [flags]";
const MAX_COST = 999_999_999;

/** `sessiond rate-limit`. `call` returns the exit code. */
export function rateLimitCommand(
  call: (options: RateLimitCallOptions) => Promise<number>,
): Command {
  return {
    summary: "counts an attempt, or says how many are left",
    help: () => HELP,
    run: async ({ args, env, stdout, stderr }) =>
      call({ ...parseRateLimitCall(args, env), stdout, stderr }),
  };
}

function parseRateLimitCall(
  args: readonly string[],
  env: Environment,
): Omit<RateLimitCallOptions, "stdout" | "stderr"> {
  const [action = "", policy = "", key = "", ...flagArgs] = args;
  if (action !== "check" && action !== "get" && action !== "reset") {
    const hint = didYouMean(action, ["check", "get", "reset"]);
    throw new ConfigError([`expected ${USAGE}${hint}; see: sessiond help rate-limit`]);
  }
  const isMissing = (word: string) => word === "" || word.startsWith("--");
  if (isMissing(policy) || isMissing(key)) {
    const missing = isMissing(policy) ? "POLICY and KEY are" : "the KEY after POLICY is";
    throw new ConfigError([`${missing} missing: ${USAGE}`]);
  }
  const isAnswered = action !== "reset";
  const known = isAnswered ? ["cost", ...REMOTE_FLAGS] : REMOTE_FLAGS;
  const operands = args.length - flagArgs.length;
  const flags = new FlagReader(flagArgs, known, { operands, switches: isAnswered ? ["json"] : [] });
  const cost = flags.read("cost", 1, (text = "1") => parseCount(text, { min: 1, max: MAX_COST }));
  const json = flags.isOn("json");
  return { action, server: remoteServer(flags, env), policy, key, cost, json };
}

const HELP = `Usage: sessiond rate-limit check POLICY KEY [flags]
       sessiond rate-limit get POLICY KEY [flags]
       sessiond rate-limit reset POLICY KEY [flags]

check counts an attempt of a key, such as an address, under a policy of the
server's SESSIOND_RATE_LIMITS, and says whether it is allowed. get says what
check would say, and counts nothing. reset forgets the attempts so far.

Exit codes: 0 when it is allowed (or forgotten), 1 when it is refused, 69 when
the server could not be asked, 2 when this command line is at fault.

  --cost COUNT             how much the attempt counts (default 1; not of reset)
  --json                   one line of JSON (check and get)
${REMOTE_HELP}`;
