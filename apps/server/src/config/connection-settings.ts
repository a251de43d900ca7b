import { formatDuration, parseDuration } from "@sessiond/core";
import type { Setting } from "./setting.js";

/** A timer of Node fires at once if it is set for more than 24.8 days. An age has a jitter and a grace. */
const MAX_TIMER_MS = 20 * 86_400_000;

/** How long clients keep their connections, and how the server takes leave of them. */
export const CONNECTION_SETTINGS = {
  maxConnectionAge: {
    group: "Listening",
    env: "SESSIOND_MAX_CONNECTION_AGE",
    flag: "max-connection-age",
    placeholder: "DURATION",
    default: "30m",
    help:
      "how long a client keeps a connection, give or take a tenth. Then it is asked to open another, " +
      "so that clients spread over new servers",
    details:
      "No call fails: over HTTP/2 the server sends GOAWAY and finishes the calls of the connection, " +
      "over HTTP/1.1 it answers with `connection: close`. A watch ends with `UNAVAILABLE` after the " +
      "same time, and its client continues it over another connection with its `resume_token`, as the " +
      "SDK does by itself.",
    parse: parseTimer,
  },
  shutdownDelay: {
    group: "Listening",
    env: "SESSIOND_SHUTDOWN_DELAY",
    flag: "shutdown-delay",
    placeholder: "DURATION",
    help:
      "how long a server that was told to stop goes on serving, while load balancers learn that it is " +
      "not ready (default `5s`, or `0s` if it listens on loopback addresses only)",
    details:
      "At the signal (SIGTERM or SIGINT), `/readyz` answers 503 and gRPC health NOT_SERVING. After " +
      "the delay, watches end with `UNAVAILABLE` and clients are asked to leave: by GOAWAY over HTTP/2, " +
      "by `connection: close` over HTTP/1.1. The server finishes the calls that it has, for at most " +
      "ten seconds, and ends with exit code 0. A second signal ends it at once.\n\n" +
      "The delay must be longer than your load balancer takes to notice: the interval of its health " +
      "checks times the failures that it waits for. In Kubernetes, `terminationGracePeriodSeconds` must " +
      "be longer than the delay and ten seconds together.",
    parse: (text) => (text === "0s" ? 0 : parseTimer(text)),
  },
} as const satisfies Record<string, Setting>;

function parseTimer(text: string): number {
  const ms = parseDuration(text);
  if (ms > MAX_TIMER_MS) throw new Error(`expected at most ${formatDuration(MAX_TIMER_MS)}`);
  return ms;
}
