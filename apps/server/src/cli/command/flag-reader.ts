import { ConfigError } from "../../config/config-error.js";
import { type Flags, parseFlags } from "../../config/flags.js";

/** Reads a command's flags and collects their faults, so that a user learns all of them at once. */
export class FlagReader {
  readonly values: Flags["values"];
  readonly faults: string[];

  /**
   * `operands` is the number of arguments before `args`, and `switches` are the flags that take no
   * value, as in `parseFlags`.
   */
  constructor(
    args: readonly string[],
    known: readonly string[],
    operands = 0,
    switches: readonly string[] = [],
  ) {
    const { values, faults } = parseFlags(args, [...known, ...switches], { operands, switches });
    this.values = values;
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
