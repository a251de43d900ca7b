import { quote, withoutSecrets } from "@sessiond/core";
import { ConfigError } from "./config-error.js";
import { type Environment, FILE_SUFFIX, readVariable, unknownVariables } from "./environment.js";
import { type Flags, parseFlags } from "./flags.js";
import { SETTING_LIST, SETTINGS, type Setting, type SettingName, type Values } from "./settings.js";

/** Where the configuration comes from. */
export interface ConfigSources {
  /** The flags of `sessiond serve`; they go before the environment. */
  readonly argv: readonly string[];
  readonly env: Environment;
}

/** The values of some settings, and every fault. */
export interface ReadSettings {
  /** Lacks the settings that have a fault, or neither a value nor a default. */
  readonly values: Partial<Values>;
  /** The settings that were given a value, right or wrong. */
  readonly given: ReadonlySet<SettingName>;
  /** Each by its key. No fault shows a secret. */
  readonly faults: readonly string[];
}

/** Reads the settings `names`. A flag or a variable that is no setting at all is a fault. */
export async function readSettings(
  sources: ConfigSources,
  names: readonly SettingName[],
): Promise<ReadSettings> {
  const flags = readFlags(sources);
  const variables = SETTING_LIST.map(({ env }) => env);
  const faults = [...flags.faults, ...unknownVariables(sources.env, variables)];
  const values: Partial<Record<SettingName, unknown>> = {};
  for (const name of names) {
    try {
      values[name] = await readSetting(SETTINGS[name], flags, sources.env);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      faults.push(...error.faults);
    }
  }
  const given = new Set(names.filter((name) => isGiven(SETTINGS[name], flags, sources.env)));
  // Every value is of its parser's type.
  return { values: values as Partial<Values>, given, faults };
}

function isGiven({ flag, env: variable }: Setting, flags: Flags, env: Environment): boolean {
  return flags.values.has(flag) || Boolean(env[variable] || env[variable + FILE_SUFFIX]);
}

/** How faults name a setting. */
export function keyOf({ env, flag }: Setting): string {
  return `${env} (--${flag})`;
}

function readFlags({ argv }: ConfigSources): Flags {
  const names = SETTING_LIST.map(({ flag }) => flag);
  const switches = SETTING_LIST.filter(({ placeholder }) => placeholder === undefined);
  return parseFlags(argv, names, { switches: switches.map(({ flag }) => flag) });
}

/** The value of a setting, or undefined without value and default. Throws a ConfigError. */
async function readSetting(setting: Setting, flags: Flags, env: Environment): Promise<unknown> {
  const flag = flags.values.get(setting.flag);
  const variable = flag === undefined ? readVariable(env, setting.env) : undefined;
  const text = flag ?? variable?.text ?? setting.default;
  if (text === undefined) return undefined;
  try {
    return await setting.parse(text);
  } catch (error) {
    const isFile = variable !== undefined && variable.name !== setting.env;
    const key = isFile ? variable.name : keyOf(setting);
    if (error instanceof ConfigError) {
      throw new ConfigError(error.faults.map((fault) => `${key}: ${fault}`));
    }
    const message = error instanceof Error ? error.message : String(error);
    // Any file may hold a secret: its name may be mistaken.
    const got = setting.secret || isFile ? "" : `, got ${quote(withoutSecrets(text))}`;
    throw new ConfigError([`${key}: ${message}${got}`]);
  }
}
