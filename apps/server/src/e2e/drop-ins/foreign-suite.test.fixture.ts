import { stripTypeScriptTypes } from "node:module";

/** Something that a suite does which is no promise to our users, and why. */
export interface Exception {
  /** A title, or the lines of a test. */
  readonly what: string | RegExp;
  readonly why: string;
}

/**
 * Runs the suite of a foreign package as its author published it. `globals` are the names that the
 * suite expects to be there, and `modules` what it imports or requires.
 */
export async function runSuite(
  source: string,
  modules: Readonly<Record<string, unknown>>,
  globals: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  const load = (name: string): unknown => {
    if (!Object.hasOwn(modules, name)) throw new Error(`the suite has a new import: ${name}`);
    return modules[name];
  };
  const javascript = stripTypeScriptTypes(source).replaceAll(
    /^import (?:\* as )?(.+?) from ("[^"]+")/gm,
    "const $1 = require($2)",
  );
  const names = Object.keys(globals);
  const AsyncFunction = (async () => {}).constructor as new (
    ...source: string[]
  ) => (...values: unknown[]) => Promise<void>;
  const suite = new AsyncFunction("require", ...names, javascript);
  await suite(load, ...Object.values(globals));
}
