import { startRedisServer } from "@sessiond/core/testing";

/** A store to run a server on, gone when disposed of. */
export interface TestStore extends AsyncDisposable {
  /** As `SESSIOND_STORE` names it. */
  readonly url: string;
}

/** The stores on which everything that a caller can see must be alike. */
export const STORES: readonly {
  readonly name: string;
  readonly open: () => Promise<TestStore>;
}[] = [
  {
    name: "SQLite",
    open: async () => ({ url: "sqlite::memory:", [Symbol.asyncDispose]: async () => {} }),
  },
  { name: "Redis", open: startRedisServer },
];
