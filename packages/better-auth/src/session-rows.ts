import { hashCredential, type Session, type SessionClient, SessiondError } from "@sessiond/client";
import { type Row, rowFrom, storedRow } from "./stored-row.js";

/** A row of better-auth's table of sessions, and the session of sessiond that keeps it. */
export interface KeptRow {
  readonly row: Row;
  readonly session: Pick<Session, "id" | "userId" | "etag">;
}

/** A condition of better-auth, as its adapters get it. */
export interface Condition {
  readonly field: string;
  readonly value: unknown;
  readonly operator?: string | undefined;
  readonly connector?: "AND" | "OR" | undefined;
}

/** Clocks of applications differ from sessiond's, and a session must be there when it is created. */
const MIN_IDLE_TIMEOUT_MS = 60_000;

const DEFAULT_LIFETIME_MS = 30 * 24 * 60 * 60 * 1_000;

/** The most tokens of BatchVerifySessions. */
const MAX_BATCH = 1_000;

/** The table of sessions, each row in a session of sessiond. */
export class SessionRows {
  readonly #client: SessionClient;
  readonly #lifetimeMs: number | undefined;

  constructor(client: SessionClient, lifetimeMs: number | undefined) {
    this.#client = client;
    this.#lifetimeMs = lifetimeMs;
  }

  /** Fails with SESSION_ALREADY_EXISTS if the token is or was in use. */
  async insert(row: Row): Promise<void> {
    const { token, userId, expiresAt, ipAddress, userAgent } = row;
    const timeLeftMs = expiresAt.getTime() - Date.now();
    await this.#client.createSession({
      userId,
      tokenHash: hashCredential(token),
      client: { ip: ipAddress ?? "", userAgent: userAgent ?? "" },
      data: storedRow(row),
      idleTimeoutMs: Math.max(timeLeftMs, MIN_IDLE_TIMEOUT_MS),
      lifetimeMs: this.#lifetimeMs ?? Math.max(timeLeftMs, DEFAULT_LIFETIME_MS),
    });
  }

  /**
   * All rows that may meet the conditions, and as few others as sessiond can leave out: by token, or
   * by user. Other conditions read all sessions.
   */
  async candidates(where: readonly Condition[] = []): Promise<KeptRow[]> {
    const kept: KeptRow[] = [];
    for await (const session of this.#sessions(where)) {
      const row = rowFrom(session);
      if (row !== undefined) kept.push({ row, session });
    }
    return kept;
  }

  async *#sessions(where: readonly Condition[]): AsyncGenerator<Session> {
    const required = where.every(({ connector }) => connector !== "OR") ? where : [];
    const tokens = valuesOf(required, "token");
    if (tokens !== undefined && tokens.length <= MAX_BATCH) {
      yield* this.#verify(tokens);
      return;
    }
    const users = valuesOf(required, "userId");
    if (users === undefined) yield* this.#client.listAllSessions();
    for (const userId of new Set(users)) yield* this.#client.listAllSessions({ userId });
  }

  /** better-auth moves deadlines itself, by its `updateAge`, so a read is no activity here. */
  async *#verify(tokens: readonly string[]): AsyncGenerator<Session> {
    const asked = [...new Set(tokens)].map((token) =>
      this.#client.verifySession(token, { noTouch: true }),
    );
    for (const session of await Promise.all(asked)) if (session !== undefined) yield session;
  }

  /**
   * Writes a row back. False if the session has ended, or has changed since it was read: then its
   * writer begins again with what there is now.
   */
  async replace({ row: before, session }: KeptRow, row: Row): Promise<boolean> {
    if (row.token !== before.token || row.userId !== before.userId) {
      throw new Error("the token and the user of a session never change: make another session");
    }
    const { id: sessionId, userId, etag } = session;
    try {
      await this.#client.updateSession(sessionId, { data: storedRow(row) }, { userId, etag });
      const isLonger = row.expiresAt.getTime() > before.expiresAt.getTime();
      if (isLonger) await this.#client.refreshSession({ sessionId });
      return true;
    } catch (error) {
      const lost = ["SESSION_NOT_FOUND", "ETAG_MISMATCH"];
      if (error instanceof SessiondError && lost.includes(error.reason)) return false;
      throw error;
    }
  }

  /** Ends a session for good. Answers whether this call did. */
  async remove({ session: { id: sessionId, userId } }: KeptRow): Promise<boolean> {
    return this.#client.revokeSession({ sessionId }, { userId });
  }
}

/** The values that the conditions allow for a field, or undefined if they allow too many. */
function valuesOf(where: readonly Condition[], field: string): string[] | undefined {
  const condition = where.find((each) => each.field === field && isListed(each));
  if (condition === undefined) return undefined;
  const values: unknown[] = Array.isArray(condition.value) ? condition.value : [condition.value];
  return values.filter((value) => typeof value === "string" && value !== "") as string[];
}

function isListed({ operator = "eq", value }: Condition): boolean {
  return (operator === "eq" && typeof value === "string") || operator === "in";
}
