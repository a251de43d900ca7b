import { type AccessConfig, type Config, loadAccessConfig, loadConfig } from "../config/config.js";
import { describeSettings } from "../config/settings-help.js";
import type { Command } from "./command/command.js";
import { EXIT_OK } from "./command/exit-codes.js";

/** Serves until it is told to stop. */
export type RunServer = (config: Config, readAccess: () => Promise<AccessConfig>) => Promise<void>;

/**
 * `sessiond serve`. `runServer` resolves when the server has stopped and rejects if it cannot start.
 * The second argument reads the keyring and the auth file again.
 */
export function serveCommand(runServer: RunServer): Command {
  return {
    summary: "runs the server",
    help: () => `Usage: sessiond serve [flags]

Runs the server until SIGTERM or SIGINT. On SIGHUP it reads the auth file and
SESSIOND_KEYRING_FILE again, and keeps what it has if there is any fault. Files
of TLS are read again when they change. Every setting is a flag or an
environment variable; flags go first. A variable with _FILE behind its name,
such as SESSIOND_KEYRING_FILE, names a file with the value: a secret of Docker
or Kubernetes. Durations are written 500ms, 30s, 30m, 24h, 7d or 1h30m.

A server needs a keyring and an auth file. Without them: sessiond serve --dev

${describeSettings()}
Traces go where OTEL_EXPORTER_OTLP_ENDPOINT says, by OpenTelemetry's variables;
docs/tracing.md describes them.
`,
    run: async ({ args, env }) => {
      const sources = { argv: args, env };
      await runServer(await loadConfig(sources), () => loadAccessConfig(sources));
      return EXIT_OK;
    },
  };
}
