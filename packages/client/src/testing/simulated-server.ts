import type { Session } from "../sessions/session.js";
import type { SessionEvent } from "../sessions/watch.js";

const IDLE_TIMEOUT_MS = 60_000;
const LIFETIME_MS = 600_000;

interface SimulatedSession {
  readonly id: string;
  readonly createMs: number;
  tokenCreateMs: number;
  lastAccessMs: number;
  isRevoked: boolean;
  /** When each version began, by the true time: version 1 first. */
  readonly versions: number[];
  /** Tokens by their number, each with the time of its end by the server's clock. */
  readonly tokens: Map<number, number>;
}

/** The sessions and the event log of a simulated world. Time is an argument. */
export class SimulatedServer {
  /** The process that keeps the log. */
  source = 1;
  log: SessionEvent[] = [];
  hasJumped = false;
  #apartMs = 0;
  #sessions: (SimulatedSession | undefined)[] = [];
  #nextToken = 10;

  /** By the server's clock. */
  timeMs(nowMs: number): number {
    return 1.8e12 + nowMs + this.#apartMs;
  }

  jump(ms: number): void {
    this.#apartMs += ms;
    this.hasJumped ||= ms !== 0;
  }

  /** Another process keeps the log from now on. It lacks the events that were not sent yet. */
  failOver(apartMs: number): void {
    this.jump(apartMs);
    this.source++;
    this.log = [];
  }

  /** A session whose user has had the token, whose number is the session's, all the time. */
  moveIn(index: number, nowMs: number): void {
    if (this.#sessions[index] !== undefined) return;
    const serverMs = this.timeMs(nowMs);
    const session = {
      id: `session-${index}`,
      createMs: serverMs,
      tokenCreateMs: serverMs,
      lastAccessMs: serverMs,
      isRevoked: false,
      versions: [nowMs],
      tokens: new Map([[index, Number.POSITIVE_INFINITY]]),
    };
    this.#sessions[index] = session;
    this.#announce(session, nowMs);
  }

  revoke(index: number, nowMs: number): void {
    this.#change(index, nowMs, (session) => {
      session.isRevoked = true;
    });
  }

  update(index: number, nowMs: number): void {
    this.#change(index, nowMs, () => {});
  }

  rotate(index: number, graceMs: number, nowMs: number): void {
    const serverMs = this.timeMs(nowMs);
    this.#change(index, nowMs, (session) => {
      for (const [token, endMs] of session.tokens) {
        session.tokens.set(token, Math.min(endMs, serverMs + graceMs));
      }
      session.tokenCreateMs = serverMs;
      session.tokens.set(this.#nextToken++, Number.POSITIVE_INFINITY);
    });
  }

  /** Verifies a token, which counts as activity. */
  verify(token: number, nowMs: number): Session | undefined {
    const session = this.#sessionOf(token);
    if (session === undefined || this.#endMs(session, token, nowMs) !== undefined) return undefined;
    session.lastAccessMs = Math.max(session.lastAccessMs, this.timeMs(nowMs));
    const { id, createMs, tokenCreateMs, lastAccessMs, versions } = session;
    return {
      id,
      userId: "user",
      displayName: "",
      roles: [],
      client: { ip: "", userAgent: "", device: "" },
      data: {},
      createTime: new Date(createMs),
      authenticateTime: new Date(createMs),
      tokenCreateTime: new Date(tokenCreateMs),
      lastAccessTime: new Date(lastAccessMs),
      expireTime: new Date(deadlineOf(session)),
      absoluteExpireTime: new Date(createMs + LIFETIME_MS),
      idleTimeoutMs: IDLE_TIMEOUT_MS,
      state: "active",
      etag: `${versions.length}`,
    };
  }

  /** Since when, by the true time, a session with this etag must not be given out for a token. */
  wrongSinceMs(token: number, etag: string, nowMs: number): number | undefined {
    const session = this.#sessionOf(token);
    if (session === undefined) return Number.NEGATIVE_INFINITY;
    return session.versions[Number(etag)] ?? this.#endMs(session, token, nowMs);
  }

  /** When the session was revoked, or else its token replaced, or -Infinity after its deadline. */
  #endMs(session: SimulatedSession, token: number, nowMs: number): number | undefined {
    if (session.isRevoked) return session.versions.at(-1);
    const serverMs = this.timeMs(nowMs);
    if (serverMs >= deadlineOf(session)) return Number.NEGATIVE_INFINITY;
    const lateMs = serverMs - (session.tokens.get(token) ?? 0);
    return lateMs < 0 ? undefined : nowMs - lateMs;
  }

  #sessionOf(token: number): SimulatedSession | undefined {
    return this.#sessions.find((session) => session?.tokens.has(token));
  }

  #change(index: number, nowMs: number, change: (session: SimulatedSession) => void): void {
    const session = this.#sessions[index];
    if (session === undefined || session.isRevoked) return;
    if (this.timeMs(nowMs) >= deadlineOf(session)) return;
    change(session);
    session.versions.push(nowMs);
    this.#announce(session, nowMs);
  }

  #announce({ id, versions }: SimulatedSession, nowMs: number): void {
    const time = new Date(this.timeMs(nowMs));
    const version = versions.length;
    this.log.push({ type: "updated", sessionId: id, userId: "user", version, time });
  }
}

function deadlineOf({ lastAccessMs, createMs }: SimulatedSession): number {
  return Math.min(lastAccessMs + IDLE_TIMEOUT_MS, createMs + LIFETIME_MS);
}
