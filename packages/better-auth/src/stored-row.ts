import type { Session } from "@sessiond/client";

/** A row of better-auth's table of sessions. An application and its plugins add fields. */
export interface Row extends Record<string, unknown> {
  readonly token: string;
  readonly userId: string;
  readonly expiresAt: Date;
  readonly ipAddress?: string | null;
  readonly userAgent?: string | null;
}

/** A row as a session's data. JSON has no dates, so their names stand beside it. */
export function storedRow(row: Row): Session["data"] {
  const dates = Object.keys(row).filter((name) => row[name] instanceof Date);
  return JSON.parse(JSON.stringify({ betterAuth: row, dates }));
}

/**
 * The row that a session keeps, or undefined if it is no session of better-auth. The row expires no
 * later than its session, whose absolute deadline never moves.
 */
export function rowFrom({ data, absoluteExpireTime }: Session): Row | undefined {
  const { betterAuth, dates } = data;
  if (typeof betterAuth !== "object" || betterAuth === null || !Array.isArray(dates)) {
    return undefined;
  }
  const row: Record<string, unknown> = { ...betterAuth };
  for (const name of dates) row[String(name)] = new Date(String(row[String(name)]));
  const { expiresAt } = row as Row;
  return (expiresAt > absoluteExpireTime ? { ...row, expiresAt: absoluteExpireTime } : row) as Row;
}
