import type { memoryAdapter } from "better-auth/adapters/memory";

type Adapter = ReturnType<ReturnType<typeof memoryAdapter>>;

/** What a read asks for. */
interface Read {
  readonly model: string;
  readonly select?: string[] | undefined;
  readonly join?: Readonly<Record<string, boolean | { limit?: number | undefined }>> | undefined;
}

/** Tells better-auth's models apart, whatever the application calls their tables. */
export interface Models {
  isSession(model: string): boolean;
  isUser(model: string): boolean;
}

type Found = Record<string, unknown> | null;

/**
 * Reads rows with what they are joined with, where one side is in sessiond and the other is in the
 * database: a session with its user, or a user with their sessions. The database does its own joins.
 */
export async function joined<R extends Read>(
  read: R,
  models: Models,
  adapter: Adapter,
  find: (read: R) => Promise<readonly Found[]>,
): Promise<readonly Found[]> {
  const joins = Object.entries(read.join ?? {}).filter(([, join]) => join !== false);
  const ours = models.isSession(read.model)
    ? joins
    : joins.filter(([model]) => models.isSession(model));
  if (ours.length === 0) return find(read);

  const rest = Object.fromEntries(joins.filter((each) => !ours.includes(each)));
  const key = models.isSession(read.model) ? "userId" : "id";
  const { join: _, select, ...plain } = read;
  const isKeySelected = select === undefined || select.length === 0 || select.includes(key);
  const found = await find({
    ...plain,
    ...(select && { select: isKeySelected ? select : [...select, key] }),
    ...(Object.keys(rest).length > 0 && { join: rest }),
  } as unknown as R);

  const joinedRows: Found[] = [];
  // One after the other: there may be many rows, and others need sessiond and the database, too.
  for (const row of found) {
    if (row === null) continue;
    const { [key]: value, ...others } = row;
    const joinedRow: Record<string, unknown> = isKeySelected ? { ...row } : others;
    for (const [model, join] of ours) {
      joinedRow[model] = await otherSide(adapter, read.model, model, value, join, models);
    }
    joinedRows.push(joinedRow);
  }
  return joinedRows;
}

function otherSide(
  adapter: Adapter,
  base: string,
  model: string,
  value: unknown,
  join: boolean | { limit?: number | undefined },
  { isSession, isUser }: Models,
) {
  if (isSession(model) && isUser(base)) {
    const where = [{ field: "userId", value: value as string }];
    const limit = typeof join === "object" ? join.limit : undefined;
    return adapter.findMany({ model, where, ...(limit !== undefined && { limit }) });
  }
  if (isSession(base) && isUser(model)) {
    return adapter.findOne({ model, where: [{ field: "id", value: value as string }] });
  }
  throw new Error(`sessions are in sessiond and join with users only, not ${base} with ${model}`);
}
