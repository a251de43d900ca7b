import { SessiondError } from "@sessiond/core";
import type { EDGE_DETAILS } from "../edge/edge-limits.js";

type Detail = (typeof EDGE_DETAILS)[number];

/** What a caller is told when clients hold too much already. */
const TOO_MUCH = {
  streams: "the server has too many open streams",
  buffered_bytes: "requests and answers under way take too much memory",
} as const satisfies Record<Detail, string>;

/** Refuses a call because clients hold too much of this already. The same call may succeed later. */
export function tooMuchAtOnce(what: Detail): SessiondError {
  return new SessiondError("OVERLOADED", TOO_MUCH[what], { detail: what });
}
