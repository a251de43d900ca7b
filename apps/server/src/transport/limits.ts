/** gRPC's default, on both ports. The largest valid message is smaller: a batch of 1000 tokens. */
export const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;

/** When the server stops, clients have this time to read what we sent. */
export const DELIVERY_MS = 1_000;

/** How long a client may take to send a request over HTTP. */
export const REQUEST_TIMEOUT_MS = 30_000;

/** Concurrent calls on one HTTP/2 connection. The client queues the rest. */
export const MAX_CONCURRENT_STREAMS = 1_000;
