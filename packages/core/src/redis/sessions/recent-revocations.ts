import type { SessionKey } from "../../sessions/session-store.js";

/** How long a revocation is remembered: longer than replicas lag behind, and than a failover takes. */
const MEMORY_MS = 5 * 60_000;
/** How many revocations are remembered; beyond it the oldest are forgotten. */
const MAX_REVOCATIONS = 10_000;

/** A revocation that this server made. */
export interface Revocation {
  readonly key: SessionKey;
  readonly reason: string;
  /** When the session was created; a chosen id may have been given to a later one since. */
  readonly createTimeMs: number;
}

/**
 * The revocations that this server made a short while ago, to be made again after
 * a failover that may have lost them.
 */
export class RecentRevocations {
  readonly #revocations: (Revocation & { readonly timeMs: number })[] = [];

  add(revocation: Revocation): void {
    this.#forgetOld();
    if (this.#revocations.length >= MAX_REVOCATIONS) this.#revocations.shift();
    this.#revocations.push({ ...revocation, timeMs: performance.now() });
  }

  all(): readonly Revocation[] {
    this.#forgetOld();
    return [...this.#revocations];
  }

  #forgetOld(): void {
    const oldest = performance.now() - MEMORY_MS;
    const kept = this.#revocations.findIndex(({ timeMs }) => timeMs > oldest);
    this.#revocations.splice(0, kept === -1 ? this.#revocations.length : kept);
  }
}
