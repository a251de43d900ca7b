import { Keyring } from "@sessiond/core";
import { ConfigError } from "../config/config-error.js";
import type { Command } from "./command/command.js";
import { EXIT_OK } from "./command/exit-codes.js";
import { FlagReader } from "./command/flag-reader.js";
import { writePaced } from "./terminal/paced-output.js";

/** `sessiond keygen`: prints a new key for the keyring. */
export const keygenCommand: Command = {
  summary: "makes a key for SESSIOND_KEYRING",
  help: () => `Usage: sessiond keygen [--kid NAME]

Prints a new key as SESSIOND_KEYRING takes it: kid:base64. To rotate keys, put
the new one behind the old, SESSIOND_KEYRING="old:…,new:…", until every server
has it: one that lacks it cannot open what it seals. The steps after that, and
when the old one can go: sessiond keys --help.

  --kid NAME   the key's name, 1 to 32 characters out of A-Z a-z 0-9 . _ -
               (default a random one)
`,
  run: async ({ args, stdout }) => {
    const flags = new FlagReader(args, ["kid"]);
    flags.throwIfFaulty();
    const key = Keyring.generateKey(flags.values.get("kid"));
    try {
      Keyring.parse(key);
    } catch {
      throw new ConfigError(["--kid: expected 1 to 32 characters out of A-Z a-z 0-9 . _ -"]);
    }
    await writePaced(stdout, `${key}\n`);
    return EXIT_OK;
  },
};
