import type { SessionKey } from "../../sessions/session-store.js";

/** How long a revocation is remembered: longer than a replica's lag and a failover. */
const MEMORY_MS = 5 * 60_000;
/** How many revocations are remembered. Beyond this the oldest are forgotten. */
const MAX_REVOCATIONS = 10_000;

/** A revocation that this server made. */
export interface Revocation {
  readonly key: SessionKey;
  readonly reason: string;
  /** Tells the session from a later one with the same chosen id. */
  readonly createTimeMs: number;
}

/** This server's recent revocations, to repeat after a failover that may have lost them. */
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
