import { parseArgs } from "node:util";

/** What a script was told. */
export interface Arguments {
  readonly names: readonly string[];
  isOn(flag: string): boolean;
}

/**
 * Reads the arguments of a script. Prints its usage and ends the process if the script is asked for
 * help, or for what it does not know: nobody who asks what a release does wants to make one.
 */
export function readArguments(
  usage: string,
  { mostNames = 0, flags = [] }: { readonly mostNames?: number; readonly flags?: string[] } = {},
): Arguments {
  const known = [...flags, "help"];
  const options = Object.fromEntries(known.map((flag) => [flag, { type: "boolean" } as const]));
  const { values, positionals } = parseArgs({ options, allowPositionals: true, strict: false });
  if (values["help"] === true) {
    console.log(usage);
    process.exit(0);
  }
  const isUnknown = Object.keys(values).some((flag) => !known.includes(flag));
  if (isUnknown || positionals.length > mostNames) {
    console.error(usage);
    process.exit(2);
  }
  return { names: positionals, isOn: (flag) => values[flag] === true };
}
