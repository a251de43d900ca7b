import type { Command } from "../command/command.js";
import { FlagReader } from "../command/flag-reader.js";
import { ISSUER_FLAGS, ISSUER_HELP, readIssuerRequest } from "./issuer-flags.js";
import { loginPlace } from "./logins.js";
import type { LoginOptions } from "./run-login.js";
import { readServerUrl, SERVER_HELP } from "./server-url.js";

const NO_PLACE = { path: "", origin: "" };

/** `sessiond login`. `logIn` returns the exit code. */
export function loginCommand(logIn: (options: LoginOptions) => Promise<number>): Command {
  return {
    summary: "logs you in for sessions, lock and rate-limit",
    help: () => HELP,
    run: async ({ args, env, stderr }) => {
      const flags = new FlagReader(args, ["server", ...ISSUER_FLAGS]);
      const request = readIssuerRequest(flags, env);
      const server = readServerUrl(flags, env);
      const place = flags.read("server", NO_PLACE, () => loginPlace(env, server));
      flags.throwIfFaulty();
      return logIn({ place, request, stderr });
    },
  };
}

const HELP = `Usage: sessiond login --issuer URL --client-id ID [flags]

Logs you in at an issuer whose access tokens the server accepts, by the device
flow (RFC 8628): says which address to open in a browser, on any device, and
which code to enter there, and waits until you have. After that, sessions, lock
and rate-limit need no other credential for this server. Ctrl-C gives up.

The tokens are kept in $XDG_STATE_HOME/sessiond/logins.json (by default in
~/.local/state), which you alone can read. They are never printed, and the
access token goes to this server and to no other. It is renewed when it has
expired, if the issuer gives a refresh token: many do for the scope
offline_access. To end it: sessiond logout.

Exit codes: 0 when you are logged in; 1 when the issuer or you refused, or the
code has expired; 69 when the issuer could not be asked; 2 when this command
line is at fault; 130 or 143 when a signal stopped it.

${SERVER_HELP}${ISSUER_HELP}`;
