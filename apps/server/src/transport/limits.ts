/**
 * The largest message either wire takes. The largest honest one is a batch of
 * 1000 tokens, well below; gRPC's own default is the same.
 */
export const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;

/** How long clients of a server that stops may take for what is on its way to them. */
export const DELIVERY_MS = 1_000;

/** How long a client may take to send a request over HTTP. */
export const REQUEST_TIMEOUT_MS = 30_000;

/** Calls that one HTTP/2 connection may have under way; more wait at the client. */
export const MAX_CONCURRENT_STREAMS = 1_000;
