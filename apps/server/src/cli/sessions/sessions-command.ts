import type { Command, ReportOutput } from "../command/command.js";
import { REMOTE_HELP } from "../remote/remote-server.js";
import { wantsColors } from "../terminal/table.js";
import { parseSessionCall, type SessionCall } from "./session-flags.js";

/** What the calls of `sessiond sessions` write to. */
export interface SessionOutputs {
  readonly stdout: ReportOutput;
  readonly stderr: ReportOutput;
  readonly colors: boolean;
}

/** `sessiond sessions`. `call` returns the exit code. */
export function sessionsCommand(
  call: (call: SessionCall, outputs: SessionOutputs) => Promise<number>,
): Command {
  return {
    summary: "lists, shows, counts, revokes and watches sessions",
    help: () => HELP,
    run: async ({ args, env, stdout, stderr }) => {
      const colors = wantsColors(stdout, env);
      return call(parseSessionCall(args, env), { stdout, stderr, colors });
    },
  };
}

const HELP = `Usage: sessiond sessions list [flags]
       sessiond sessions get SESSION_ID [flags]
       sessiond sessions count [flags]
       sessiond sessions revoke SESSION_ID … [flags]
       sessiond sessions revoke-user USER_ID … [flags]
       sessiond sessions watch [flags]

list shows the active sessions, newest first, in a table that fits the terminal.
Into a pipe, nothing is cut. revoke and revoke-user end sessions for good; both
may be repeated, and then find nothing left to end. revoke-user ends all
sessions of each user: it says how many, asks, and shows how far it is. Ctrl-C
stops it between two users. watch prints each change as it happens, also after a
lost connection, until Ctrl-C. Only the ids of sessions are printed, never
tokens.

With --json, each line is one JSON object: a session, an event, a count or what
was revoked. Times are RFC 3339 in UTC. Colors are for terminals only; NO_COLOR
turns them off.

Exit codes: 0 for success; 1 when the session of get is not active, or some
sessions of list cannot be unsealed, or the answer to a question is no; 69 when
the server could not be asked, or refused; 2 when this command line is at fault;
130 or 143 when a signal stopped it, but 0 for watch.

  --user USER_ID           only this user's sessions (not with revoke-user)
  --json                   one JSON object a line

Of list:
  --role ROLE              only sessions with this role
  --ip ADDRESS             only sessions from this address
  --created-from TIME      only sessions created at this time or later: an RFC
                           3339 time, or how long ago, such as 2h
  --created-to TIME        only sessions created before this time
  --active-from TIME       only sessions that were active at this time or later
  --active-to TIME         only sessions that were active before this time, and
                           not since
  --show-expired           also sessions that expired a short while ago
  --show-revoked           also sessions that were revoked a short while ago
  --order ORDER            newest-first (default) or oldest-first
  --limit COUNT            at most so many sessions (default all)
  --ids                    only the ids, one a line

Of revoke and revoke-user:
  --reason TEXT            kept with the session, and told to watchers
  --except SESSION_ID      ends all sessions of the user but this one
                           (revoke-user)
  --yes                    does not ask; required without a terminal
                           (revoke-user)
  --dry-run                says what would end, and ends nothing (revoke-user)

${REMOTE_HELP}`;
