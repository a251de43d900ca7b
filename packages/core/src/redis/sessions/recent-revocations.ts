import type { SessionKey } from "../../sessions/session-store.js";

/** How long a revocation is remembered: longer than a replica's lag and a failover. */
const MEMORY_MS = 5 * 60_000;
/** How many revocations are remembered, of all namespaces together. */
const MAX_REVOCATIONS = 10_000;

/** A revocation that this server made. */
export interface Revocation {
  readonly namespace: string;
  readonly key: SessionKey;
  readonly reason: string;
  /** Tells the session from a later one with the same chosen id. */
  readonly storeTimeMs: number;
}

/**
 * This server's recent revocations, to repeat after a failover that may have lost them. If there are
 * too many, those of the namespace with the most are forgotten, so that none can crowd out others.
 */
export class RecentRevocations {
  /** By namespace, the oldest first. */
  readonly #remembered = new Map<string, (Revocation & { readonly timeMs: number })[]>();
  #size = 0;

  add(revocation: Revocation): void {
    if (this.#size >= MAX_REVOCATIONS) this.#forgetOld();
    if (this.#size >= MAX_REVOCATIONS) this.#forgetOne();
    const { namespace } = revocation;
    const own = this.#remembered.get(namespace) ?? [];
    own.push({ ...revocation, timeMs: performance.now() });
    this.#remembered.set(namespace, own);
    this.#size++;
  }

  all(): readonly Revocation[] {
    this.#forgetOld();
    return [...this.#remembered.values()].flat();
  }

  #forgetOld(): void {
    const oldest = performance.now() - MEMORY_MS;
    for (const [namespace, own] of this.#remembered) {
      const kept = own.findIndex(({ timeMs }) => timeMs > oldest);
      this.#size -= own.splice(0, kept === -1 ? own.length : kept).length;
      if (own.length === 0) this.#remembered.delete(namespace);
    }
  }

  #forgetOne(): void {
    let most: unknown[] = [];
    for (const own of this.#remembered.values()) if (own.length > most.length) most = own;
    most.shift();
    this.#size--;
  }
}
