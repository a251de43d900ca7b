import type { Socket } from "node:net";

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

/**
 * Knows which connections of HTTP/1.1 are too old, counted from their first request. Nobody can close
 * one between two requests without the risk that the second is already on its way.
 */
export class ConnectionAges {
  readonly #maxAgeMs: number;
  readonly #closeAtMs = new WeakMap<Socket, number>();

  constructor(maxAgeMs: number) {
    this.#maxAgeMs = maxAgeMs;
  }

  /** Whether the connection takes no request after this one. */
  isOver(socket: Socket): boolean {
    const closeAtMs = this.#closeAtMs.get(socket);
    if (closeAtMs !== undefined) return performance.now() >= closeAtMs;
    this.#closeAtMs.set(socket, performance.now() + jitteredAgeMs(this.#maxAgeMs));
    return false;
  }
}
