import type { SessionClient } from "@sessiond/client";
import { ConfigError } from "../../config/config-error.js";
import { EXIT_FAILURE, EXIT_OK, exitCodeOf } from "../command/exit-codes.js";
import { ProgressReport } from "../command/progress-report.js";
import { onStopSignals } from "../command/signals.js";
import { writePaced } from "../terminal/paced-output.js";
import { cut, jsonLine, printable } from "../terminal/printable.js";
import type { CallOf } from "./session-flags.js";
import type { SessionOutputs } from "./sessions-command.js";

/** Asks a question on the terminal. True for yes. */
export type Confirm = (question: string) => Promise<boolean>;

/** The plan names so many users. Its sums are of all of them. */
const MAX_USERS_SHOWN = 20;
const USER_WIDTH = 60;

/** Ends all sessions of users, one user after the other: after a question, unless told not to ask. */
export async function revokeUsers(
  client: SessionClient,
  call: CallOf<"revoke-user">,
  { confirm, ...outputs }: SessionOutputs & { readonly confirm: Confirm | undefined },
): Promise<number> {
  if (call.mode === "ask" && confirm === undefined) {
    throw new ConfigError(["--yes: required, since there is no terminal to ask on"]);
  }
  if (call.mode !== "yes") outputs.stderr.write(await planOf(client, call));
  if (call.mode === "dry-run") return EXIT_OK;
  if (call.mode === "ask" && !(await confirm?.("sessiond: end them?"))) {
    outputs.stderr.write("sessiond: nothing was ended\n");
    return EXIT_FAILURE;
  }
  return revokeAll(client, call, outputs);
}

/** What would end, as it is now. */
async function planOf(client: SessionClient, call: CallOf<"revoke-user">): Promise<string> {
  const lines: string[] = [];
  let total = 0;
  for (const userId of call.userIds) {
    const active = await client.countSessions({ userId });
    const count = Math.max(0, active - (await sparedOf(client, userId, call.exceptSessionId)));
    total += count;
    lines.push(`  ${cut(printable(userId), USER_WIDTH)}: ${sessions(count)}\n`);
  }
  const shown = lines.slice(0, MAX_USERS_SHOWN);
  const rest = lines.length - shown.length;
  if (rest > 0) shown.push(`  and ${rest} more ${rest === 1 ? "user" : "users"}\n`);
  const spared = call.exceptSessionId === undefined ? "" : `, but not ${call.exceptSessionId}`;
  return `sessiond: this ends ${sessions(total)} of ${users(call.userIds.length)}${spared}:\n${shown.join("")}`;
}

/** How many of the user's active sessions `--except` spares. */
async function sparedOf(
  client: SessionClient,
  userId: string,
  exceptSessionId: string | undefined,
): Promise<number> {
  if (exceptSessionId === undefined) return 0;
  return (await client.getSession(exceptSessionId, { userId })) === undefined ? 0 : 1;
}

async function revokeAll(
  client: SessionClient,
  { userIds, exceptSessionId, reason, json }: CallOf<"revoke-user">,
  { stdout, stderr }: SessionOutputs,
): Promise<number> {
  let stopped: NodeJS.Signals | undefined;
  const now = new AbortController();
  using _ = onStopSignals(
    (name) => {
      stopped = name;
    },
    () => now.abort(),
  );
  const options = { reason, signal: now.signal, ...(exceptSessionId && { exceptSessionId }) };
  // A bar and lines of JSON would write over each other in the same terminal.
  const report = json && stdout.isTTY ? undefined : new ProgressReport(stderr, userIds.length);
  let [done, revoked] = [0, 0];
  const sum = () => `ended ${sessions(revoked)} of ${users(done)}`;
  try {
    for (const userId of userIds) {
      if (stopped !== undefined) break;
      const revokedCount = await client.revokeUserSessions(userId, options);
      revoked += revokedCount;
      if (json) await writePaced(stdout, jsonLine({ userId, revokedCount }));
      report?.progress(++done);
    }
  } catch (error) {
    report?.end();
    stderr.write(`sessiond: ${sum()} before this failed; it may be run again\n`);
    throw error;
  }
  report?.end();
  if (done === userIds.length) {
    if (!json) await writePaced(stdout, `${sum()}\n`);
    return EXIT_OK;
  }
  stderr.write(
    `sessiond: ${stopped}: ${sum()}; run it again to end the sessions of the other users\n`,
  );
  return stopped === undefined ? EXIT_FAILURE : exitCodeOf(stopped);
}

function sessions(count: number): string {
  return `${count} ${count === 1 ? "session" : "sessions"}`;
}

function users(count: number): string {
  return `${count} ${count === 1 ? "user" : "users"}`;
}
