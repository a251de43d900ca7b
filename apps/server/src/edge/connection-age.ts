/** As in grpc-js, so that connections that were opened together do not close together. */
const JITTER = 0.1;

/**
 * An old connection is cut after this time. The longest call of all waits for a lock for an hour, so
 * none is left then.
 */
export const OLD_CONNECTION_GRACE_MS = 3_700_000;

/** An age around `maxAgeMs`. */
export function jitteredAgeMs(maxAgeMs: number): number {
  return maxAgeMs * (1 - JITTER + 2 * JITTER * Math.random());
}
