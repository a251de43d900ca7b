import { ConfigError } from "../../config/config-error.js";
import { parseFlags } from "../../config/flags.js";
import { SETTING_LIST } from "../../config/settings.js";
import type { Command } from "../command/command.js";
import { wantsColors } from "../terminal/table.js";
import type { DoctorOptions } from "./run-doctor.js";

const JSON_FLAG = "json";

/** `sessiond doctor`. `diagnose` returns the exit code. */
export function doctorCommand(diagnose: (options: DoctorOptions) => Promise<number>): Command {
  return {
    summary: "looks for what is wrong with a server's settings and surroundings",
    help: () => HELP,
    run: async ({ args, env, stdout }) => {
      const { argv, json } = parseDoctorFlags(args);
      const colors = wantsColors(stdout, env);
      return diagnose({ sources: { argv, env }, json, colors, stdout });
    },
  };
}

/** A flag that is none, or lacks its value, is bad usage. A bad value is what doctor is for. */
function parseDoctorFlags(args: readonly string[]) {
  const switches = SETTING_LIST.filter(({ placeholder }) => placeholder === undefined);
  const { values, faults } = parseFlags(
    args,
    [...SETTING_LIST.map(({ flag }) => flag), JSON_FLAG],
    {
      switches: [...switches.map(({ flag }) => flag), JSON_FLAG],
    },
  );
  const json = values.get(JSON_FLAG) ?? "false";
  const isBoolean = json === "true" || json === "false";
  const all = [...faults, ...(isBoolean ? [] : [`--${JSON_FLAG}: expected true or false`])];
  if (all.length > 0) throw new ConfigError(all);
  const settings = [...values].filter(([name]) => name !== JSON_FLAG);
  return { argv: settings.map(([name, value]) => `--${name}=${value}`), json: json === "true" };
}

const HELP = `Usage: sessiond doctor [flags]

Reads the settings of sessiond serve, asks the store and the issuers, and says
what is wrong and what to do. Run it as the server's user with the server's
environment, before a start or beside a running server. It changes nothing,
prints no secret, and ends within half a minute, also if something does not
answer.

It looks at: settings; modes of files; disks; ports; certificates; the store,
and of Redis the version, eviction, persistence, replicas, memory and latency;
the keys that seal sessions; issuers and their algorithms; clocks. It listens on
a free port for a moment.

What it cannot know: how other machines see this one (names, networks,
firewalls, load balancers); settings of other servers; the permissions of
callers; whether the backups are good; what happens under load; Redis's replicas
and sentinels themselves. Of a store with many sessions it looks at the newest,
for three seconds.

Exit codes: 0 when there are at most warnings; 1 when there is a fault; 2 when
this command line is at fault.

  --json                   a check a line, as one JSON object
  --store STORE            SESSIOND_STORE
  --auth FILE              SESSIOND_AUTH
  --data-dir DIRECTORY     SESSIOND_DATA_DIR

sessiond serve --help lists all other flags and variables.
`;
