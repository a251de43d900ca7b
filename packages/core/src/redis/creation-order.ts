import type { Partition } from "../session-id.js";
import type { ListCursor, ListQuery } from "../session-store.js";

/** An entry of the index by creation time. */
export interface CreationEntry extends ListCursor {
  readonly partition: Partition;
}

/** A stretch of one partition's index to read, in the order of the query. */
export interface IndexRange {
  readonly partition: Partition;
  /** Scores as ZRANGEBYSCORE takes them; absent for a stretch from the very first entry on. */
  readonly scores?: { readonly min: string | number; readonly max: string | number };
  readonly count: number;
}

/** Reads stretches, all in one go; each answer is `[id, score, id, score, …]`. */
export type ReadIndex = (
  ranges: readonly IndexRange[],
) => Promise<readonly (readonly (string | Buffer)[])[]>;

/** What is known of one partition: the entries read ahead, and where reading goes on. */
interface Source {
  readonly partition: Partition;
  readonly ahead: CreationEntry[];
  after: ListCursor | undefined;
  exhausted: boolean;
  count: number;
}

/** How many more entries of a partition are read than an even spread would need. */
const READ_AHEAD = 3;

/**
 * Merges the partitions' indexes by creation time into one order, and takes the
 * first entries after `query.after`. Answers fewer than `query.limit` only where
 * there are no more; `next` is set unless all were taken.
 *
 * Each page reads a few entries of every partition, so its cost is that of the
 * number of partitions, not of sessions.
 */
export async function takeInCreationOrder(
  query: ListQuery,
  partitions: readonly Partition[],
  readIndex: ReadIndex,
): Promise<{ readonly entries: readonly CreationEntry[]; readonly next?: ListCursor }> {
  const compare = byCreation(query.order);
  const sources: Source[] = partitions.map((partition) => ({
    partition,
    ahead: [],
    after: query.after,
    exhausted: false,
    count: Math.ceil(query.limit / partitions.length) + READ_AHEAD,
  }));

  const entries: CreationEntry[] = [];
  await refill(sources, query, readIndex);
  while (entries.length < query.limit) {
    const first = sources.reduce((a, b) => (headOf(b, compare, a) ? b : a));
    const entry = first.ahead.shift();
    if (entry === undefined) return { entries };
    entries.push(entry);
    if (first.ahead.length > 0) continue;
    // One that has more than its share may well have much more.
    first.count *= 2;
    await refill([first], query, readIndex);
  }
  const last = entries.at(-1);
  const isAll = sources.every((source) => source.exhausted && source.ahead.length === 0);
  return last === undefined || isAll ? { entries } : { entries, next: cursorOf(last) };
}

/** Orders sessions by creation time, then by id, as Redis orders a sorted set. */
export function byCreation(order: ListQuery["order"]): (a: ListCursor, b: ListCursor) => number {
  const sign = order === "asc" ? 1 : -1;
  return (a, b) => {
    if (a.createTimeMs !== b.createTimeMs) return sign * (a.createTimeMs - b.createTimeMs);
    if (a.id === b.id) return 0;
    return a.id < b.id ? -sign : sign;
  };
}

/** The position of a session in the order of creation. */
export function cursorOf({ createTimeMs, id }: ListCursor): ListCursor {
  return { createTimeMs, id };
}

/** Whether the next entry of `source` comes before that of `other`. */
function headOf(source: Source, compare: ReturnType<typeof byCreation>, other: Source): boolean {
  const [head] = source.ahead;
  const [otherHead] = other.ahead;
  if (head === undefined) return false;
  return otherHead === undefined || compare(head, otherHead) < 0;
}

/** Reads ahead in each source until it has an entry or is exhausted. */
async function refill(sources: readonly Source[], query: ListQuery, readIndex: ReadIndex) {
  const compare = byCreation(query.order);
  let hungry = sources.filter((source) => !source.exhausted);
  while (hungry.length > 0) {
    const replies = await readIndex(hungry.map((source) => rangeOf(source, query)));
    for (const [i, source] of hungry.entries()) {
      const reply = replies[i] ?? [];
      const { after } = source;
      const entries = toEntries(reply, source.partition);
      source.ahead.push(...entries.filter((e) => after === undefined || compare(e, after) > 0));
      source.after = source.ahead.at(-1) ?? after;
      source.exhausted = entries.length < source.count;
      // A stretch of nothing but entries of the same millisecond that were
      // taken already: the next must be longer to get past them.
      if (source.ahead.length === 0) source.count *= 2;
    }
    hungry = hungry.filter((source) => source.ahead.length === 0 && !source.exhausted);
  }
}

/** The stretch to read next. It starts at the last entry's very time, for others may share it. */
function rangeOf({ partition, after, count }: Source, query: ListQuery): IndexRange {
  const { createTimeFromMs, createTimeToMs } = query;
  // Redis finds the end of a sorted set at once, a score only by going through it.
  if ((after ?? createTimeFromMs ?? createTimeToMs) === undefined) return { partition, count };
  const from = createTimeFromMs ?? "-inf";
  const to = createTimeToMs === undefined ? "+inf" : `(${createTimeToMs}`;
  const scores =
    query.order === "asc"
      ? { min: after?.createTimeMs ?? from, max: to }
      : { min: from, max: after?.createTimeMs ?? to };
  return { partition, scores, count };
}

function toEntries(reply: readonly (string | Buffer)[], partition: Partition): CreationEntry[] {
  const entries: CreationEntry[] = [];
  for (let i = 0; i < reply.length; i += 2) {
    entries.push({ partition, id: String(reply[i]), createTimeMs: Number(reply[i + 1]) });
  }
  return entries;
}
