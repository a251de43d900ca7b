import { describe, expect, test } from "vitest";

/** A store that breaks a promise of its contract on purpose. */
export interface BrokenStore<Open> {
  /** What it does wrong: "a store that …". */
  readonly fault: string;
  /** The titles of the checks that must see it; others may as well. */
  readonly caughtBy: readonly string[];
  /** Opens it on top of a correct store. */
  readonly open: (openCorrect: Open) => Open;
}

/** What a suite of checks is, to prove that it sees what it should. */
interface Suite<Check, Open> {
  readonly checks: readonly Check[];
  readonly run: (check: Check, open: Open) => Promise<void>;
  readonly openCorrect: Open;
  readonly brokenStores: readonly BrokenStore<Open>[];
  readonly timeoutMs?: number;
}

/** Proves that every check of a suite sees at least one broken store. */
export function describeProofs<Check extends { readonly title: string }, Open>({
  checks,
  run,
  openCorrect,
  brokenStores,
  timeoutMs = 30_000,
}: Suite<Check, Open>): void {
  test("for each check, under a title of its own, there is a broken store that it must see", () => {
    const titles = checks.map(({ title }) => title).toSorted();
    const proven = brokenStores.flatMap(({ caughtBy }) => caughtBy);
    expect(titles).toEqual([...new Set(proven)].toSorted());
  });

  describe("the suite sees a store that", () => {
    for (const { fault, caughtBy, open } of brokenStores) {
      // At once, because some of them keep a check waiting for what never comes.
      test.concurrent(fault, { timeout: timeoutMs }, async () => {
        for (const check of checks.filter(({ title }) => caughtBy.includes(title))) {
          const verdict = run(check, open(openCorrect)).then(
            () => `"${check.title}" does not see it`,
            () => "seen",
          );
          expect(await verdict).toBe("seen");
        }
      });
    }
  });
}

/** A store that answers by its own methods where it has them, and by another store's otherwise. */
export function overriding<Store extends object>(store: Store, own: Partial<Store>): Store {
  return new Proxy(store, {
    get(target, name) {
      const method: unknown = Reflect.get(own, name) ?? Reflect.get(target, name);
      return typeof method === "function" && !(name in own) ? method.bind(target) : method;
    },
  });
}

/** Makes a call at another time: this much later, or earlier. */
export type Shifted = <T>(byMs: number, call: () => Promise<T>) => Promise<T>;

/** A clock that single calls can be shifted by. */
export function shiftable(now: () => number): { now: () => number; shifted: Shifted } {
  let shiftMs = 0;
  return {
    now: () => now() + shiftMs,
    async shifted(byMs, call) {
      shiftMs = byMs;
      try {
        return await call();
      } finally {
        shiftMs = 0;
      }
    },
  };
}
