/** What clients may use of the server's sockets and memory, on both ports together. */
export interface EdgeLimits {
  /** Open sockets. */
  readonly maxConnections: number;
  /** Open HTTP/2 streams: calls, watches, health checks. */
  readonly maxStreams: number;
  /** Of these on one connection. The client queues the rest. */
  readonly maxStreamsPerConnection: number;
  /** The headers of one request. */
  readonly maxHeaderBytes: number;
  /** One request, and also after it is decompressed. */
  readonly maxMessageBytes: number;
  /** Requests that are not complete and answers that nobody has taken yet, of all connections. */
  readonly maxBufferedBytes: number;
  /** How long a client may take for a handshake, for its first request, for sending a request. */
  readonly requestTimeoutMs: number;
  /** A connection of a known caller closes after this time without a call. */
  readonly connectionIdleMs: number;
  /** After this time, give or take a tenth, a connection takes no new calls. */
  readonly maxConnectionAgeMs: number;
}

/** For tests. One of them compares these limits with the defaults of the settings. */
export const DEFAULT_EDGE_LIMITS: EdgeLimits = {
  maxConnections: 4_096,
  maxStreams: 10_000,
  maxStreamsPerConnection: 1_000,
  maxHeaderBytes: 16 * 1024,
  maxMessageBytes: 4 * 1024 * 1024,
  maxBufferedBytes: 64 * 1024 * 1024,
  requestTimeoutMs: 10_000,
  connectionIdleMs: 300_000,
  maxConnectionAgeMs: 1_800_000,
};

/** What can be too much when a call is refused. */
export const EDGE_DETAILS = ["streams", "buffered_bytes"] as const;
