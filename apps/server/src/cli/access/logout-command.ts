import type { Command } from "../command/command.js";
import { FlagReader } from "../command/flag-reader.js";
import { loginPlace } from "./logins.js";
import type { LogoutOptions } from "./run-logout.js";
import { readServerUrl, SERVER_HELP } from "./server-url.js";

const NO_PLACE = { path: "", origin: "" };

/** `sessiond logout`. `logOut` returns the exit code. */
export function logoutCommand(logOut: (options: LogoutOptions) => Promise<number>): Command {
  return {
    summary: "ends what sessiond login began",
    help: () => HELP,
    run: async ({ args, env, stderr }) => {
      const flags = new FlagReader(args, ["server"]);
      const server = readServerUrl(flags, env);
      const place = flags.read("server", NO_PLACE, () => loginPlace(env, server));
      flags.throwIfFaulty();
      return logOut({ place, stderr });
    },
  };
}

const HELP = `Usage: sessiond logout [flags]

Deletes the tokens that sessiond login has kept for a server, and revokes them
at the issuer if it can do that. Where the issuer is down, they are deleted all
the same. The server itself goes on accepting a copy of the access token until
that expires.

${SERVER_HELP}`;
