import { parseArgs } from "node:util";
import { withoutSecrets } from "@sessiond/core";
import { didYouMean } from "./closest-name.js";

/** The values of a command line, and all its faults. */
export interface Flags {
  readonly values: ReadonlyMap<string, string>;
  /** The arguments that are no flags, if `mostNames` allows some. */
  readonly names: readonly string[];
  /** One line per fault, without the flags' values, which may be secrets. */
  readonly faults: readonly string[];
}

/** A short word such as `true`, `10.0.0.1` or `make-all`: no key, no access token, no URL with a password. */
const PLAIN_WORD = /^[a-z0-9][a-z0-9.-]{0,15}$/i;

/** Options of `parseFlags`. */
export interface FlagOptions {
  /**
   * The number of arguments before `argv`, which are names. If a command takes names, a
   * plain word too many is probably a name, too, and is shown. Otherwise it may be a secret.
   */
  readonly operands?: number;
  /**
   * How many names may stand before, between and after the flags. A name that begins with a dash
   * needs a `--` before it. Default: none.
   */
  readonly mostNames?: number;
  /** The flags that mean `true` when they have no value. They take a value only as `--name=value`. */
  readonly switches?: readonly string[];
}

/** Reads `--name value` and `--name=value` for the names in `known`. Nothing else is allowed. */
export function parseFlags(
  argv: readonly string[],
  known: readonly string[],
  { operands = 0, mostNames = 0, switches = [] }: FlagOptions = {},
): Flags {
  const typeOf = (name: string) => (switches.includes(name) ? "boolean" : "string");
  const options = Object.fromEntries(known.map((name) => [name, { type: typeOf(name) } as const]));
  const { tokens } = parseArgs({ args: [...argv], options, strict: false, tokens: true });
  const values = new Map<string, string>();
  const names: string[] = [];
  const faults: string[] = [];
  let unknownAt = Number.NaN;
  for (const token of tokens) {
    if (token.kind === "positional") {
      // This is probably the value of the unknown flag, which is a fault already.
      if (token.index === unknownAt + 1) continue;
      if (names.length < mostNames) {
        names.push(token.value);
        continue;
      }
      const shown =
        operands + mostNames > 0 && PLAIN_WORD.test(token.value)
          ? JSON.stringify(token.value)
          : `argument ${operands + token.index + 1}`;
      faults.push(`${shown}: not a flag; expected --name value`);
    } else if (token.kind === "option") {
      if (!known.includes(token.name) || token.rawName.length === 2) {
        unknownAt = token.inlineValue === true ? Number.NaN : token.index;
        faults.push(
          `${withoutSecrets(token.rawName)}: unknown flag${didYouMean(token.name, known, "--")}`,
        );
      } else if (values.has(token.name)) {
        faults.push(`${token.rawName}: given twice`);
      } else if (token.value === undefined && switches.includes(token.name)) {
        values.set(token.name, "true");
      } else if (token.value === undefined || isFlag(token.value, token.inlineValue)) {
        faults.push(`${token.rawName}: expected a value`);
      } else {
        values.set(token.name, token.value);
      }
    }
  }
  return { values, names, faults };
}

/** `--a --b` is an `--a` without a value. A value that begins with dashes needs `--a=--b`. */
function isFlag(value: string, isInline: boolean): boolean {
  return !isInline && value.startsWith("--");
}
