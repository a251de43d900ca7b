import { SETTINGS } from "../../../config/settings.js";
import { type Check, fault, warning } from "./check.js";
import { counted } from "./texts.js";

const FLAG_REMEDY = "Set the variable instead, or its _FILE.";

/** Flags, variables and files are right, by themselves and together. */
export const settingsCheck: Check = async ({ config, sources }) => ({
  summary: counted(config.given.size, "setting"),
  findings: [
    ...config.faults.map((problem) =>
      fault(`${problem}.`, "Correct it: docs/configuration.md describes every setting."),
    ),
    ...secretFlags(sources.argv).map((flag) =>
      warning(`The flag --${flag} shows a secret to every user of this machine.`, FLAG_REMEDY),
    ),
  ],
});

/** Paths of files with secrets may be seen. */
function secretFlags(argv: readonly string[]): readonly string[] {
  const { keyring, store } = SETTINGS;
  return [
    ...(argv.some((argument) => argument.startsWith(`--${keyring.flag}=`)) ? [keyring.flag] : []),
    ...(argv.some((argument) => /^--store=[^/]*:\/\/.*:.*@/s.test(argument)) ? [store.flag] : []),
  ];
}
