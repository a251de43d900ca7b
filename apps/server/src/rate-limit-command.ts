import type { CommandContext } from "./cli.js";
import { ConfigError } from "./config-error.js";
import { parseFlags } from "./flags.js";
import { REMOTE_FLAGS, REMOTE_HELP, remoteServer } from "./remote-server.js";

/** `sessiond rate-limit`: reads the command line, and has the server asked. */
export async function runRateLimitCommand(context: CommandContext): Promise<number> {
  const { args, env, stdout, stderr, rateLimitCall } = context;
  const [action, policy = "", key = "", ...flags] = args;
  const isAction = action === "check" || action === "reset";
  if (!isAction || [policy, key].some((word) => word === "" || word.startsWith("--"))) {
    throw new ConfigError([
      "expected sessiond rate-limit check|reset POLICY KEY [flags]; see: sessiond help rate-limit",
    ]);
  }
  const known = action === "check" ? ["cost", ...REMOTE_FLAGS] : REMOTE_FLAGS;
  const { values, faults: flagFaults } = parseFlags(flags, known);
  const faults = [...flagFaults];
  const cost = values.get("cost") ?? "1";
  if (!/^[1-9]\d{0,8}$/.test(cost)) faults.push("--cost: expected a whole number from 1");
  const server = remoteServer(values, env, faults);
  return rateLimitCall({ action, server, policy, key, cost: Number(cost), stdout, stderr });
}

export function rateLimitHelp(): string {
  return `Usage: sessiond rate-limit check POLICY KEY [flags]
       sessiond rate-limit reset POLICY KEY [flags]

Counts an attempt of a key, such as an address, under a policy of the server's
SESSIOND_RATE_LIMITS, and says whether it is allowed; or forgets those so far.

Exit codes: 0 when it is allowed (or forgotten), 1 when it is refused, 69 when the
server could not be asked, 2 when this command line is at fault.

  --cost COUNT             how much the attempt counts (check only, default 1)
${REMOTE_HELP}`;
}
