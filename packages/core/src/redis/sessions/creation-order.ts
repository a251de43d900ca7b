import type { Partition } from "../../sessions/session-id.js";
import type { ListCursor, ListQuery } from "../../sessions/session-store.js";

/** An entry of an index by creation time. */
export interface CreationEntry extends ListCursor {
  readonly partition: Partition;
}

/** Entries to read, in the order of the query, of partitions that are read together. */
export interface Stretch {
  readonly partitions: readonly Partition[];
  readonly after: ListCursor | undefined;
  readonly count: number;
}

/**
 * Reads stretches, all in one go. Answers their entries in any order, and perhaps others of the
 * same milliseconds as `after` and the last one.
 */
export type ReadStretches = (
  stretches: readonly Stretch[],
) => Promise<readonly (readonly CreationEntry[])[]>;

/** What is known of partitions that are read together: the entries read ahead, and where reading goes on. */
interface Source {
  readonly partitions: readonly Partition[];
  readonly ahead: CreationEntry[];
  after: ListCursor | undefined;
  exhausted: boolean;
  count: number;
}

/** How many more entries of a source are read than an even spread would need. */
const READ_AHEAD = 3;
/** At most this many entries are read at once, so that Redis soon serves others again. */
const MAX_COUNT = 256;

/**
 * Takes the first entries after `query.after` in the order of creation, and answers fewer
 * than `query.limit` only where there are no more; `next` is set unless all were taken.
 *
 * Redis merges partitions that it can read together, which are all of them unless it is a
 * cluster, and what it answers is merged here. Each page reads a few entries of
 * every partition, so its cost is that of the number of partitions, not of sessions.
 */
export async function takeInCreationOrder(
  query: ListQuery,
  groups: readonly (readonly Partition[])[],
  readStretches: ReadStretches,
): Promise<{ readonly entries: readonly CreationEntry[]; readonly next?: ListCursor }> {
  const compare = byCreation(query.order);
  const sources: Source[] = groups.map((partitions) => ({
    partitions,
    ahead: [],
    after: query.after,
    exhausted: false,
    count: Math.min(Math.ceil(query.limit / groups.length) + READ_AHEAD, MAX_COUNT),
  }));

  const entries: CreationEntry[] = [];
  await readAhead(sources, compare, readStretches);
  while (entries.length < query.limit) {
    const first = sources.reduce((a, b) => (headOf(b, compare, a) ? b : a));
    const entry = first.ahead.shift();
    if (entry === undefined) return { entries };
    entries.push(entry);
    if (first.ahead.length > 0 || first.exhausted) continue;
    // One that has more than its share may well have much more.
    first.count = Math.min(2 * first.count, MAX_COUNT);
    await readAhead([first], compare, readStretches);
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

/** Reads on in sources that have nothing ahead. */
async function readAhead(
  sources: readonly Source[],
  compare: ReturnType<typeof byCreation>,
  readStretches: ReadStretches,
): Promise<void> {
  const replies = await readStretches(sources);
  for (const [i, source] of sources.entries()) {
    const { after, count } = source;
    const found = (replies[i] ?? [])
      .filter((entry) => after === undefined || compare(entry, after) > 0)
      .sort(compare)
      .slice(0, count);
    source.ahead.push(...found);
    source.after = found.at(-1) ?? after;
    source.exhausted = found.length < count;
  }
}

/** The arguments of `READ_IN_CREATION_ORDER`. */
export function stretchArguments(
  { order, createTimeFromMs: from = -Infinity, createTimeToMs: to = Infinity }: ListQuery,
  { after, count }: Stretch,
) {
  let lowest = from === -Infinity ? "-inf" : `${from}`;
  let highest = to === Infinity ? "+inf" : `(${to}`;
  // It starts at the cursor's very time, for others may share it.
  if (after && order === "asc") lowest = `${Math.max(from, after.createTimeMs)}`;
  if (after && order === "desc" && after.createTimeMs < to) highest = `${after.createTimeMs}`;
  return { order, count, lowest, highest, afterTimeMs: after?.createTimeMs ?? "" };
}

/** The entries that `READ_IN_CREATION_ORDER` answers for the indexes of some partitions. */
export function toEntries(
  reply: Buffer,
  partitions: readonly Partition[],
): readonly CreationEntry[] {
  const entries: CreationEntry[] = [];
  const words = reply.length === 0 ? [] : reply.toString("latin1").split(" ");
  for (let i = 0; i < words.length; i += 3) {
    const partition = partitions[Number(words[i]) - 1] as Partition;
    entries.push({ partition, id: words[i + 1] ?? "", createTimeMs: Number(words[i + 2]) });
  }
  return entries;
}
