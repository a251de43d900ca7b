import type { ExaminedConfig } from "../../../config/config.js";
import { SETTINGS } from "../../../config/settings.js";
import { type Check, fault, warning } from "./check.js";
import { counted } from "./texts.js";

const FLAG_REMEDY = "Set the variable instead, or its _FILE.";

/** Flags, variables and files are right, by themselves and together. */
export const settingsCheck: Check = async ({ config, sources }) => ({
  summary: summarize(config),
  findings: [
    ...config.faults.map((problem) =>
      fault(`${problem}.`, "Correct it: docs/configuration.md describes every setting."),
    ),
    ...secretFlags(sources.argv).map((flag) =>
      warning(`The flag --${flag} shows a secret to every user of this machine.`, FLAG_REMEDY),
    ),
  ],
});

/** What is missing or has an unknown name is a fault, and not among the given. */
function summarize({ given, faults }: ExaminedConfig): string {
  const sum = `${counted(given.size, "setting")} given`;
  return faults.length === 0 ? sum : `${sum}, ${counted(faults.length, "fault")}`;
}

/** Paths of files with secrets may be seen. */
function secretFlags(argv: readonly string[]): readonly string[] {
  const { keyring, store } = SETTINGS;
  return [
    ...(argv.some((argument) => argument.startsWith(`--${keyring.flag}=`)) ? [keyring.flag] : []),
    ...(argv.some((argument) => /^--store=[^/]*:\/\/.*:.*@/s.test(argument)) ? [store.flag] : []),
  ];
}
