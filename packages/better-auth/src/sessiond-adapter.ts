import type { SessionClient } from "@sessiond/client";
import type { BetterAuthOptions } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { joined, type Models } from "./joins.js";
import { type Condition, type KeptRow, SessionRows } from "./session-rows.js";
import type { Row } from "./stored-row.js";

/** What better-auth calls a database: makes an adapter for its options. */
type Database = ReturnType<typeof memoryAdapter>;
type Adapter = ReturnType<Database>;

/** Options of `sessiondAdapter`. */
export interface SessiondAdapterOptions {
  /** The client of sessiond. Its access token needs all four `sessions:` permissions. */
  client: SessionClient;

  /** The adapter of your database, for users, accounts and everything else. */
  database: Database;

  /**
   * How long a session lives at most, in milliseconds, however active it is: better-auth's own
   * sessions never end while they are used. Default: 30 days, or `session.expiresIn` if that is
   * longer.
   */
  lifetimeMs?: number | undefined;
}

/** The name of the model, whatever the application calls its table. */
const SESSION = "session";

/** How often a write starts over because of others. */
const MAX_ATTEMPTS = 5;

/**
 * A database for better-auth that keeps `session` in sessiond and hands everything else to
 * `database`. Transactions are the database's own: a session that is created in one stays if the
 * transaction is undone. Without its user it proves nothing.
 */
export function sessiondAdapter(options: SessiondAdapterOptions): Database {
  const rows = new SessionRows(options.client, options.lifetimeMs);
  return (authOptions) => withSessions(options.database(authOptions), rows, authOptions);
}

/** The methods of an adapter that change rows and answer what they changed. */
type Change = "update" | "updateMany" | "incrementOne";

function withSessions(inner: Adapter, rows: SessionRows, options: BetterAuthOptions): Adapter {
  const models: Models = {
    isSession: (model) => ["session", "sessions", options.session?.modelName].includes(model),
    isUser: (model) => ["user", "users", options.user?.modelName].includes(model),
  };
  const { isSession } = models;
  const unmapped = {
    ...options,
    session: { ...options.session, modelName: "session", fields: {} },
  };
  /** better-auth's own adapter in memory selects, sorts and changes what sessiond has answered. */
  const inMemory = (kept: readonly KeptRow[]) => {
    const database = { session: kept.map(({ row }): Row => ({ ...row })) };
    return { database, adapter: memoryAdapter(database)(unmapped) };
  };
  const selected = async (where: Condition[] | undefined) => inMemory(await rows.candidates(where));

  const create: Adapter["create"] = async (args) => {
    if (!isSession(args.model)) return inner.create(args);
    const { database, adapter } = inMemory([]);
    const created = await adapter.create({ ...args, model: SESSION });
    await rows.insert(database.session[0] as Row);
    return created as never;
  };

  /** Changes rows in memory and writes them back. Starts over if somebody else was faster. */
  async function change<M extends Change>(method: M, args: Parameters<Adapter[M]>[0]) {
    for (let attempt = 1; ; attempt++) {
      const kept = await rows.candidates(args.where);
      const { database, adapter } = inMemory(kept);
      const answer = await (adapter[method] as (args: unknown) => Promise<unknown>)({
        ...args,
        model: SESSION,
      });
      if (await writeBack(kept, database.session)) return answer;
      if (attempt === MAX_ATTEMPTS) throw new Error(`a session changed ${attempt} times meanwhile`);
    }
  }

  /**
   * One after the other: there may be many, and others need sessiond, too. False if somebody else
   * was faster with one of them.
   */
  async function writeBack(kept: readonly KeptRow[], changed: readonly Row[]): Promise<boolean> {
    let areWritten = true;
    for (const [index, before] of kept.entries()) {
      const after = changed[index] as Row;
      const isSame = JSON.stringify(after) === JSON.stringify(before.row);
      if (!isSame && !(await rows.replace(before, after))) areWritten = false;
    }
    return areWritten;
  }

  /** Ends the sessions that the conditions name, and answers those that this call ended. */
  async function remove(where: Condition[], limit = Number.POSITIVE_INFINITY): Promise<KeptRow[]> {
    const kept = await rows.candidates(where);
    const { database, adapter } = inMemory(kept);
    const all = database.session;
    await adapter.deleteMany({ model: SESSION, where: where as never });
    const left = new Set(database.session);
    const removed: KeptRow[] = [];
    for (const [index, each] of kept.entries()) {
      const isNamed = !left.has(all[index] as Row);
      if (isNamed && removed.length < limit && (await rows.remove(each))) removed.push(each);
    }
    return removed;
  }

  const outer: Adapter = {
    ...inner,
    create,
    async findOne(args) {
      const find = async ({ model, where, ...rest }: typeof args) =>
        isSession(model)
          ? (await selected(where)).adapter.findOne<never>({ model: SESSION, where, ...rest })
          : inner.findOne<never>({ model, where, ...rest });
      return joined(args, models, outer, async (plain) => [await find(plain)]).then(
        ([found]) => (found ?? null) as never,
      );
    },
    async findMany(args) {
      const find = async ({ model, where, ...rest }: typeof args) =>
        isSession(model)
          ? (await selected(where)).adapter.findMany<never>({ model: SESSION, where, ...rest })
          : inner.findMany<never>({ model, where, ...rest });
      return (await joined(args, models, outer, find)) as never;
    },
    async count(args) {
      if (!isSession(args.model)) return inner.count(args);
      return (await selected(args.where)).adapter.count({ ...args, model: SESSION });
    },
    async update(args) {
      if (!isSession(args.model)) return inner.update(args);
      return (await change("update", args)) as never;
    },
    async updateMany(args) {
      if (!isSession(args.model)) return inner.updateMany(args);
      return (await change("updateMany", args)) as number;
    },
    async incrementOne(args) {
      if (!isSession(args.model)) return inner.incrementOne(args);
      return (await change("incrementOne", args)) as never;
    },
    async delete(args) {
      if (!isSession(args.model)) return inner.delete(args);
      if (args.where.length > 0) await remove(args.where);
    },
    async deleteMany(args) {
      if (!isSession(args.model)) return inner.deleteMany(args);
      return (await remove(args.where)).length;
    },
    async consumeOne(args) {
      if (!isSession(args.model)) return inner.consumeOne(args);
      const removed = await remove(args.where, 1);
      return inMemory(removed).adapter.findOne({ model: SESSION, where: [] });
    },
    transaction: (callback) =>
      inner.transaction((inside) => {
        const transaction = withSessions(inside as Adapter, rows, options);
        return callback(transaction);
      }),
  };
  return outer;
}
