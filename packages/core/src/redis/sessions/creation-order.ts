import type { Partition } from "../../sessions/session-id.js";
import type { ListCursor, ListQuery } from "../../sessions/session-store.js";
import { fromStoredId, toStoredId } from "./stored-id.js";

/**
 * An entry of an index by creation time. The ids of entries and cursors here are stored ids, as latin1
 * text. Redis has the sessions of one millisecond in this order.
 */
export interface CreationEntry extends ListCursor {
  readonly partition: Partition;
}

/** A part of the order to read, from partitions that are read together. */
export interface Stretch {
  readonly partitions: readonly Partition[];
  readonly after: ListCursor | undefined;
  readonly count: number;
}

/** Reads all stretches together. Answers the entries of each in any order. */
export type ReadStretches = (
  stretches: readonly Stretch[],
) => Promise<readonly (readonly CreationEntry[])[]>;

/** Partitions that are read together, the entries read ahead, and the position of the next read. */
interface Source {
  readonly partitions: readonly Partition[];
  readonly ahead: CreationEntry[];
  after: ListCursor | undefined;
  exhausted: boolean;
  count: number;
}

/** How many more entries we read from a source than an even spread would need. */
const READ_AHEAD = 3;
/** The bound of one read, so that Redis soon serves other commands. */
const MAX_COUNT = 256;

/**
 * Takes the first entries after `query.after` in the order of creation: `query.limit` of them, or
 * all. `next` is set unless all were taken.
 *
 * Redis merges the partitions that it can read together (all, unless it is a cluster), and we merge
 * its answers. A page costs a few entries of each partition, however many sessions there are.
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
    // A source with more than its share may have many more.
    first.count = Math.min(2 * first.count, MAX_COUNT);
    await readAhead([first], compare, readStretches);
  }
  const last = entries.at(-1);
  const isAll = sources.every((source) => source.exhausted && source.ahead.length === 0);
  return last === undefined || isAll ? { entries } : { entries, next: cursorOf(last) };
}

/** By creation time, then by id, as Redis orders a sorted set. */
export function byCreation(order: ListQuery["order"]): (a: ListCursor, b: ListCursor) => number {
  const sign = order === "asc" ? 1 : -1;
  return (a, b) => {
    if (a.createTimeMs !== b.createTimeMs) return sign * (a.createTimeMs - b.createTimeMs);
    if (a.id === b.id) return 0;
    return a.id < b.id ? -sign : sign;
  };
}

/** The cursor after a session. */
export function cursorOf({ createTimeMs, id }: ListCursor): ListCursor {
  return { createTimeMs, id };
}

/** Whether the next entry of `source` comes before the next entry of `other`. */
function headOf(source: Source, compare: ReturnType<typeof byCreation>, other: Source): boolean {
  const [head] = source.ahead;
  const [otherHead] = other.ahead;
  if (head === undefined) return false;
  return otherHead === undefined || compare(head, otherHead) < 0;
}

/** Reads more entries of sources that have none ahead. */
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
  // Start at the cursor's time, because other sessions may share it.
  if (after && order === "asc") lowest = `${Math.max(from, after.createTimeMs)}`;
  if (after && order === "desc" && after.createTimeMs < to) highest = `${after.createTimeMs}`;
  const { createTimeMs: afterTimeMs = "", id: afterId = "" } = after ?? {};
  return { order, count, lowest, highest, afterTimeMs, afterId: Buffer.from(afterId, "latin1") };
}

/** Parses the reply of `READ_IN_CREATION_ORDER`. */
export function toEntries(
  reply: Buffer,
  partitions: readonly Partition[],
): readonly CreationEntry[] {
  const entries: CreationEntry[] = [];
  const text = reply.toString("latin1");
  let at = 0;
  const nextNumber = () => {
    const start = at;
    at = text.indexOf(" ", start) + 1;
    return Number(text.slice(start, at));
  };
  while (at < text.length) {
    const partition = partitions[nextNumber() - 1] as Partition;
    const createTimeMs = nextNumber();
    const length = nextNumber();
    entries.push({ partition, id: text.slice(at, at + length), createTimeMs });
    at += length + 1;
  }
  return entries;
}

/** A cursor with the stored id. */
export function toStoredCursor({ createTimeMs, id }: ListCursor): ListCursor {
  return { createTimeMs, id: toStoredId(id).toString("latin1") };
}

/** The cursor with the id that callers know. */
export function fromStoredCursor({ createTimeMs, id }: ListCursor): ListCursor {
  return { createTimeMs, id: fromStoredId(Buffer.from(id, "latin1")) };
}
