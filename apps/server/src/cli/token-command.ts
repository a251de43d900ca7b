import { existsSync } from "node:fs";
import { parseDuration, quote, withoutSecrets } from "@sessiond/core";
import {
  type DevelopmentToken,
  developmentSigningKeyPath,
  mintDevelopmentToken,
} from "../auth/development-keys.js";
import { dataDirectory } from "../config/config.js";
import type { Environment } from "../config/environment.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import type { Command } from "./command/command.js";
import { EXIT_OK } from "./command/exit-codes.js";
import { FlagReader } from "./command/flag-reader.js";
import { writePaced } from "./terminal/paced-output.js";

const FLAGS = ["permissions", "subject", "ttl", "data-dir"];
const DEFAULT_TTL = "1h";

/** `sessiond token`: prints an access token that a development server accepts. */
export const tokenCommand: Command = {
  summary: "makes an access token for development",
  help: () => `Usage: sessiond token --permissions a,b [flags]

Prints an access token that a development server with the same data directory
accepts. It is of no use with a server that has an auth file.

  --permissions LIST     separated by commas:
                         ${KNOWN_PERMISSIONS.slice(0, 3).join(", ")},
                         ${KNOWN_PERMISSIONS.slice(3).join(", ")}
  --subject NAME         who calls, as logs say (default development)
  --ttl DURATION         how long the token is good for (default ${DEFAULT_TTL})
  --data-dir DIRECTORY   the server's (SESSIOND_DATA_DIR, default .sessiond)
`,
  run: async ({ args, env, stdout, stderr }) => {
    const token = parseTokenFlags(args, env);
    const keyPath = developmentSigningKeyPath(token.dataDir);
    const isNewKey = !existsSync(keyPath);
    const text = await mintDevelopmentToken(token);
    // A user in the wrong directory learns it here, not from a server's refusal.
    if (isNewKey) {
      stderr.write(
        `sessiond: made a new signing key, ${keyPath}; only a server with this data directory ` +
          "accepts the token (another one's: --data-dir)\n",
      );
    }
    await writePaced(stdout, `${text}\n`);
    return EXIT_OK;
  },
};

function parseTokenFlags(args: readonly string[], env: Environment): DevelopmentToken {
  const flags = new FlagReader(args, FLAGS);
  const token = {
    permissions: flags.read<readonly string[]>("permissions", [], parsePermissions),
    subject: flags.read("subject", "", parseSubject),
    ttlMs: flags.read("ttl", 0, (text = DEFAULT_TTL) => parseDuration(text)),
    dataDir: flags.read("data-dir", "", (text) => dataDirectory(text, env)),
  };
  flags.throwIfFaulty();
  return token;
}

function parsePermissions(text = ""): readonly string[] {
  const known = `known permissions: ${KNOWN_PERMISSIONS.join(", ")}`;
  const permissions = text.split(/[\s,]+/).filter((word) => word !== "");
  if (permissions.length === 0) throw new Error(`expected at least one; ${known}`);
  const unknown = permissions.filter((permission) => !KNOWN_PERMISSIONS.includes(permission));
  if (unknown.length > 0)
    throw new Error(`unknown ${quote(withoutSecrets(unknown.join(", ")))}; ${known}`);
  return [...new Set(permissions)];
}

function parseSubject(text = "development"): string {
  if (text === "" || text.length > 256) throw new Error("expected 1 to 256 characters");
  return text;
}
