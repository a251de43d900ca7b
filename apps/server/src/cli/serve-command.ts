import { type Config, loadConfig } from "../config/config.js";
import { describeSettings } from "../config/settings-help.js";
import type { Command } from "./command/command.js";
import { EXIT_OK } from "./command/exit-codes.js";

/** `sessiond serve`. `runServer` resolves when the server has stopped and rejects if it cannot start. */
export function serveCommand(runServer: (config: Config) => Promise<void>): Command {
  return {
    summary: "runs the server",
    help: () => `Usage: sessiond serve [flags]

Runs the server until SIGTERM or SIGINT. Every setting is a flag or an environment
variable; flags go first. A variable with _FILE behind its name, such as
SESSIOND_KEYRING_FILE, names a file with the value: a secret of Docker or Kubernetes.
Durations are written 500ms, 30s, 30m, 24h, 7d or 1h30m.

A server needs a keyring and an auth file. Without them, try \`sessiond serve --dev\`.

${describeSettings()}`,
    run: async ({ args, env }) => {
      await runServer(await loadConfig({ argv: args, env }));
      return EXIT_OK;
    },
  };
}
