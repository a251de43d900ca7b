import { loadStoreConfig } from "../config/config.js";
import { ConfigError } from "../config/config-error.js";
import type { Command } from "./command/command.js";
import type { ResealOptions } from "./reseal.js";

/** `sessiond keys`. `reseal` returns the exit code. */
export function keysCommand(reseal: (options: ResealOptions) => Promise<number>): Command {
  return {
    summary: "seals sessions anew after a new key",
    help: () => HELP,
    run: async ({ args: [action, ...flags], env, stdout, stderr }) => {
      if (action !== "reseal") {
        throw new ConfigError(["expected sessiond keys reseal; see: sessiond help keys"]);
      }
      const { config, keyring } = await loadStoreConfig({ argv: flags, env });
      return reseal({ config, keyring, stdout, stderr });
    },
  };
}

const HELP = `Usage: sessiond keys reseal [flags]

The first key of SESSIOND_KEYRING seals new sessions. This command seals the
others with it, too, ended ones included, while servers go on. To rotate keys
without downtime:

  1. Make a key: sessiond keygen
  2. Add it behind the old one, SESSIOND_KEYRING="old:…,new:…", on each server.
  3. Once all of them have it, put it in front: "new:…,old:…", on each server.
  4. Run sessiond keys reseal with that keyring and the servers' store.
  5. Wait 10 minutes, for as long are requests to create sessions remembered.
  6. Remove the old key, on each server.

It may be stopped with SIGINT or SIGTERM, and goes on where it was when it is
run again. Exit codes: 0 when nothing is left under another key; 1 when some
sessions are, and listed, or the store failed; 2 when the command line or the
configuration is at fault; 130 or 143 when a signal stopped it.

The flags and variables are those of sessiond serve. These matter here:

  --keyring KID:BASE64,…   SESSIOND_KEYRING, required
  --store STORE            SESSIOND_STORE
  --redis-ca FILE          SESSIOND_REDIS_CA
  --redis-cert FILE        SESSIOND_REDIS_CERT
  --redis-key FILE         SESSIOND_REDIS_KEY
  --data-dir DIRECTORY     SESSIOND_DATA_DIR, where the default store is
`;
