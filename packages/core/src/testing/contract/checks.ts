/** One promise of a contract. `run` rejects where the store breaks it. */
export interface Check<Context> {
  readonly title: string;
  readonly run: (context: Context) => Promise<void>;
}

/** Promises of a contract: of each the title, and what is run to check it. */
export type Checks<Context> = Readonly<Record<string, Check<Context>["run"]>>;

/** The checks of several groups, one after the other. */
export function listChecks<Context>(...groups: readonly Checks<Context>[]): Check<Context>[] {
  return groups.flatMap((group) => Object.entries(group).map(([title, run]) => ({ title, run })));
}
