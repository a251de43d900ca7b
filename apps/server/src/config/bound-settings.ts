import { parseDuration } from "@sessiond/core";
import { parseCount, parseSize } from "./quantity.js";
import type { Setting } from "./setting.js";

/** What clients may use of the server's sockets and memory, on both ports together. */
export const BOUND_SETTINGS = {
  maxConnections: {
    group: "Bounds",
    env: "SESSIOND_MAX_CONNECTIONS",
    flag: "max-connections",
    placeholder: "COUNT",
    default: "4096",
    help: "how many connections may be open, on both ports together",
    details:
      "A new connection beyond it takes the place of the oldest on which nobody has shown a valid " +
      "access token. If there is none, it is closed at once. The process needs a file descriptor for " +
      "each (`ulimit -n`), and about fifty for itself.",
    parse: (text) => parseCount(text, { min: 1, max: 1_000_000 }),
  },
  maxStreams: {
    group: "Bounds",
    env: "SESSIOND_MAX_STREAMS",
    flag: "max-streams",
    placeholder: "COUNT",
    default: "10000",
    help: "how many HTTP/2 streams may be open: calls, watches and health checks of all connections",
    details:
      "A connection may open a stream while it has fewer than are free. So one greedy connection gets " +
      "at most a half, and others still find room. Beyond it, calls fail with `OVERLOADED`.",
    parse: (text) => parseCount(text, { min: 10, max: 10_000_000 }),
  },
  maxStreamsPerConnection: {
    group: "Bounds",
    env: "SESSIOND_MAX_STREAMS_PER_CONNECTION",
    flag: "max-streams-per-connection",
    placeholder: "COUNT",
    default: "1000",
    help: "how many streams one HTTP/2 connection may have open; its client queues the rest",
    details: "At most 100, until somebody shows a valid access token on the connection.",
    parse: (text) => parseCount(text, { min: 1, max: 1_000_000 }),
  },
  maxHeaderSize: {
    group: "Bounds",
    env: "SESSIOND_MAX_HEADER_SIZE",
    flag: "max-header-size",
    placeholder: "SIZE",
    default: "16KiB",
    help: "how large the headers of a request may be",
    parse: (text) => parseSize(text, { min: "8KiB", max: "64KiB" }),
  },
  maxMessageSize: {
    group: "Bounds",
    env: "SESSIOND_MAX_MESSAGE_SIZE",
    flag: "max-message-size",
    placeholder: "SIZE",
    default: "4MiB",
    help: "how large a request may be, also after it is decompressed",
    details:
      "The default is enough for every batch of 1000 that the API allows. A larger request fails " +
      "with `RESOURCE_EXHAUSTED`, or 429 over HTTP.",
    parse: (text) => parseSize(text, { min: "64KiB", max: "64MiB" }),
  },
  maxBufferedSize: {
    group: "Bounds",
    env: "SESSIOND_MAX_BUFFERED_SIZE",
    flag: "max-buffered-size",
    placeholder: "SIZE",
    default: "64MiB",
    help: "what requests and answers under way may hold of the memory, on all connections together",
    details:
      "A connection may hold as much as is still free, as with streams. Beyond it, a call fails with " +
      "`OVERLOADED`. The process takes about twice as much for it.",
    parse: (text) => parseSize(text, { min: "8MiB", max: "64GiB" }),
  },
  requestTimeout: {
    group: "Bounds",
    env: "SESSIOND_REQUEST_TIMEOUT",
    flag: "request-timeout",
    placeholder: "DURATION",
    default: "10s",
    help:
      "how long a client may take for each: to begin after it has connected, to send its headers, to " +
      "send the rest of a request, and to take something of an answer",
    parse: parseDuration,
  },
  connectionIdleTimeout: {
    group: "Bounds",
    env: "SESSIOND_CONNECTION_IDLE_TIMEOUT",
    flag: "connection-idle-timeout",
    placeholder: "DURATION",
    default: "5m",
    help: "when an HTTP/2 connection without a call closes, unless nobody has shown a valid access token on it: then after the request timeout",
    parse: parseDuration,
  },
} as const satisfies Record<string, Setting>;
