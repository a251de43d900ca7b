import { Keyring } from "@sessiond/core";
import { ConfigError } from "../config/config-error.js";
import { parseFlags } from "../config/flags.js";
import type { Command, CommandContext } from "./command/command.js";
import { EXIT_OK } from "./command/exit-codes.js";

/** `sessiond keygen`: prints a new key for SESSIOND_KEYRING. */
export const keygenCommand: Command = { summary: "makes a key for SESSIOND_KEYRING", help, run };

async function run({ args, stdout }: CommandContext): Promise<number> {
  const { values, faults } = parseFlags(args, ["kid"]);
  if (faults.length > 0) throw new ConfigError(faults);
  const key = Keyring.generateKey(values.get("kid"));
  try {
    Keyring.parse(key);
  } catch {
    throw new ConfigError(["--kid: expected 1 to 32 characters out of A-Z a-z 0-9 . _ -"]);
  }
  stdout.write(`${key}\n`);
  return EXIT_OK;
}

function help(): string {
  return `Usage: sessiond keygen [--kid NAME]

Prints a new key as SESSIOND_KEYRING takes it: kid:base64. To rotate keys, put the
new one behind the old, SESSIOND_KEYRING="old:…,new:…", until every server has it:
one that lacks it cannot open what it seals. The steps after that, and when the old
one can go: sessiond keys --help.

  --kid NAME   the key's name, 1 to 32 characters out of A-Z a-z 0-9 . _ -
               (default a random one)
`;
}
