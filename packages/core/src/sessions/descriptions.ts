import { LIMITS } from "../validation.js";
import { canonicalIp } from "./ip-address.js";
import type { SessionClient } from "./session.js";

// What merely describes a session never fails a call: browsers send user agents of kilobytes, and
// proxies all kinds of addresses, and none of that may turn a user away. What decides or identifies
// is checked in session-checks.ts instead.

/** A change to a description of a request. */
export interface Notice {
  /** The path of the field in the request, such as `client.user_agent`. */
  readonly field: string;
  /** Never holds the text itself. */
  readonly description: string;
}

/** Control characters, and halves of surrogate pairs. */
const UNPRINTABLE = /[\p{Control}\p{Surrogate}]/gu;

/**
 * The text as it is kept: cut to `maxBytes` in UTF-8, and a space for each character that nobody can
 * read. A cut never splits a character of Unicode, but may split what a reader takes for one
 * character, as an emoji of several: to find those needs tables that change every year. Adds its
 * changes to `notices`.
 */
export function keptText(
  field: string,
  text: string,
  maxBytes: number,
  notices: Notice[] = [],
): string {
  const cut = cutTo(maxBytes, text);
  if (cut !== text) notices.push({ field, description: `cut to ${maxBytes} bytes` });
  const kept = cut.replace(UNPRINTABLE, " ");
  if (kept !== cut) {
    notices.push({ field, description: "unprintable characters were replaced by spaces" });
  }
  return kept;
}

/** The parts of a client as they are kept. Adds its changes to `notices`. */
export function keptClient(
  field: string,
  { ip, userAgent, device }: Partial<SessionClient>,
  notices: Notice[],
): Partial<SessionClient> {
  const { userAgentBytes, deviceBytes } = LIMITS;
  return {
    ...(ip !== undefined && { ip: keptIp(`${field}.ip`, ip, notices) }),
    ...(userAgent !== undefined && {
      userAgent: keptText(`${field}.user_agent`, userAgent, userAgentBytes, notices),
    }),
    ...(device !== undefined && {
      device: keptText(`${field}.device`, device, deviceBytes, notices),
    }),
  };
}

/** The address in its one form, or empty if it is none. Another spelling is no change. */
function keptIp(field: string, ip: string, notices: Notice[]): string {
  const kept = canonicalIp(ip) ?? "";
  if (ip !== "" && kept === "") {
    notices.push({ field, description: "left empty, because it is no IPv4 or IPv6 address" });
  }
  return kept;
}

/** The beginning of a text that has at most `maxBytes` in UTF-8. */
function cutTo(maxBytes: number, text: string): string {
  // No UTF-16 unit needs more than three bytes.
  if (text.length * 3 <= maxBytes) return text;
  // Encodes only whole characters, so it stops before one that does not fit.
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(maxBytes));
  return text.slice(0, read);
}
