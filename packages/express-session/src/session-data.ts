import { type Session, SessiondError } from "@sessiond/client";
import type { SessionData } from "express-session";

/** A session's data, as sessiond has it: the session as `JSON.stringify` writes it. */
export type StoredData = Session["data"];

/** The limit of CreateSessionRequest.data in the contract. */
const MAX_DATA_BYTES = 16 * 1024;

/** The data to store. Throws INVALID_ARGUMENT, with the size, if there is too much of it. */
export function toStoredData(session: SessionData): StoredData {
  const json = JSON.stringify(session);
  const bytes = Buffer.byteLength(json);
  if (bytes > MAX_DATA_BYTES) {
    const description = `expected at most ${MAX_DATA_BYTES} bytes as JSON in all, got ${bytes}`;
    throw new SessiondError("INVALID_ARGUMENT", `the session's data: ${description}`, {
      fieldViolations: [{ field: "data", description }],
    });
  }
  return JSON.parse(json);
}

/**
 * The session as a store answers it. Its cookie expires with it, because a touch moves the deadline
 * and writes no data. A cookie without an expiry has none.
 */
export function fromStoredData({ data, expireTime }: Session): SessionData {
  const { cookie } = data;
  const hasExpiry = isObject(cookie) && typeof cookie["expires"] === "string";
  const answer = hasExpiry
    ? { ...data, cookie: { ...cookie, expires: expireTime.toISOString() } }
    : data;
  return answer as unknown as SessionData;
}

/** Whether the data is of express-session: a namespace may have other sessions, too. */
export function isOfExpressSession({ data }: Session): boolean {
  const { cookie } = data;
  return isObject(cookie) && "originalMaxAge" in cookie;
}

/**
 * How long a session lives from now by its cookie, in milliseconds; 0 or less if it has ended.
 * Undefined if the cookie does not say.
 */
export function timeLeftMs({ cookie }: SessionData): number | undefined {
  const expires: Date | string | null | undefined = cookie?.expires;
  if (expires === undefined || expires === null) return undefined;
  return new Date(expires).getTime() - Date.now();
}

/** The idle timeout that a cookie asks for: its `maxAge`, or the time until it `expires`. */
export function idleTimeoutOf(session: SessionData): number | undefined {
  const { originalMaxAge } = session.cookie ?? {};
  return typeof originalMaxAge === "number" ? originalMaxAge : timeLeftMs(session);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
