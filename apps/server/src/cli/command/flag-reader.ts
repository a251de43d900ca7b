import { ConfigError } from "../../config/config-error.js";
import { type FlagOptions, type Flags, parseFlags } from "../../config/flags.js";

/** Reads a command's flags and collects their faults, so that a user learns all of them at once. */
export class FlagReader {
  readonly values: Flags["values"];
  readonly names: Flags["names"];
  readonly faults: string[];

  constructor(args: readonly string[], known: readonly string[], options: FlagOptions = {}) {
    const all = [...known, ...(options.switches ?? [])];
    const { values, names, faults } = parseFlags(args, all, options);
    this.values = values;
    this.names = names;
    this.faults = [...faults];
  }

  /** Returns `fallback` if `parse` throws. The error's message becomes a fault. */
  read<T>(flag: string, fallback: T, parse: (text: string | undefined) => T): T {
    try {
      return parse(this.values.get(flag));
    } catch (error) {
      this.faults.push(`--${flag}: ${error instanceof Error ? error.message : error}`);
      return fallback;
    }
  }

  /** Whether a switch is on. */
  isOn(flag: string): boolean {
    return this.read(flag, false, (text = "false") => {
      if (text !== "true" && text !== "false") throw new Error("expected true or false");
      return text === "true";
    });
  }

  /** Throws a ConfigError with all faults, if there is any. */
  throwIfFaulty(): void {
    if (this.faults.length > 0) throw new ConfigError(this.faults);
  }
}
