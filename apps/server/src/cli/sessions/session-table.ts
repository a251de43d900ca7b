import type { Session, SessionEvent, SessionState } from "@sessiond/client";
import { formatDuration } from "@sessiond/core";
import { printable } from "../terminal/printable.js";
import { relativeTime } from "../terminal/relative-time.js";
import type { Column, Style } from "../terminal/table.js";

const SHORT_ID_WIDTH = 13;
const STYLES = { active: "green", expired: "yellow", revoked: "red" } as const satisfies Record<
  SessionState,
  Style
>;

/** The columns of a list. The state is of interest only if it is not the same everywhere. */
export function sessionColumns(nowMs: number, hasEnded: boolean): readonly Column<Session>[] {
  const state: Column<Session> = {
    title: "STATE",
    text: (session) => session.state,
    style: (session) => STYLES[session.state],
    usualWidth: "revoked".length,
  };
  return [
    { title: "ID", text: (session) => session.id, shortWidth: SHORT_ID_WIDTH },
    { title: "USER", text: (session) => session.userId, minWidth: 12 },
    ...(hasEnded ? [state] : []),
    timeColumn("CREATED", nowMs, (session) => session.createTime),
    timeColumn("ACTIVE", nowMs, (session) => session.lastAccessTime),
    timeColumn("ENDS", nowMs, (session) => session.revokeTime ?? session.expireTime),
    { title: "ADDRESS", text: ({ client }) => client.ip, minWidth: 15 },
    { title: "DEVICE", text: ({ client }) => client.device || client.userAgent, minWidth: 10 },
  ];
}

function timeColumn(title: string, nowMs: number, time: (session: Session) => Date) {
  const width = "59m ago".length;
  const text = (session: Session) => relativeTime(time(session), nowMs);
  return { title, text, usualWidth: width } satisfies Column<Session>;
}

/** The columns of what `watch` shows. No row is known when they are laid out. */
export const EVENT_COLUMNS: readonly Column<SessionEvent>[] = [
  { title: "TIME", text: ({ time }) => `${time.toISOString().slice(11, 19)}Z`, usualWidth: 9 },
  {
    title: "EVENT",
    text: ({ type }) => type,
    usualWidth: "token_rotated".length,
    style: ({ type }) => EVENT_STYLES[type],
  },
  { title: "USER", text: ({ userId }) => userId, usualWidth: 24, minWidth: 12 },
  { title: "ID", text: ({ sessionId }) => sessionId, usualWidth: 64, shortWidth: SHORT_ID_WIDTH },
  { title: "BY", text: ({ changedBy }) => changedBy ?? "", usualWidth: 16, minWidth: 8 },
  { title: "REASON", text: ({ reason }) => reason ?? "", usualWidth: 20, minWidth: 6 },
];

const EVENT_STYLES: Readonly<Record<SessionEvent["type"], Style | undefined>> = {
  created: "green",
  updated: undefined,
  token_rotated: undefined,
  token_reused: "red",
  revoked: "yellow",
  evicted: "yellow",
  unknown: undefined,
};

/** All about a session, a field a line. */
export function describeSession(session: Session, nowMs: number): string {
  const time = (at: Date) => `${at.toISOString()} (${relativeTime(at, nowMs)})`;
  const fields: readonly (readonly [string, string])[] = [
    ["id", session.id],
    ["user", session.userId],
    ["name", session.displayName],
    ["state", session.state],
    ["roles", session.roles.join(", ")],
    ["address", session.client.ip],
    ["device", session.client.device],
    ["user agent", session.client.userAgent],
    ["created", time(session.createTime)],
    ["authenticated", time(session.authenticateTime)],
    ["token made", time(session.tokenCreateTime)],
    ["last active", time(session.lastAccessTime)],
    ["expires", time(session.expireTime)],
    ["expires at the latest", time(session.absoluteExpireTime)],
    ["idle timeout", formatDuration(session.idleTimeoutMs)],
    ["etag", session.etag],
  ];
  const width = Math.max(...fields.map(([name]) => name.length));
  const lines = fields.map(([name, text]) => `${name.padEnd(width)}  ${printable(text)}`.trimEnd());
  const data = JSON.stringify(session.data, undefined, 2).split("\n").map(printable).join("\n");
  return `${lines.join("\n")}\ndata ${data}\n`;
}
