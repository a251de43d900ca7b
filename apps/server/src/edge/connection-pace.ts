import type { Socket } from "node:net";

/** Connections that begin in one turn of the event loop, while nobody floods the server. */
const MAX_PER_TURN = 64;
/** Vain calls in one turn of the event loop that make it a flood. */
const FLOOD = 50;
/**
 * During a flood, so many may wait: about as many as begin before they would be cut as silent. Each
 * holds what its client has sent, up to 64 KiB.
 */
const MAX_WAITING = 400;

/**
 * Spreads the work that new connections bring over turns of the event loop, so that known callers are
 * served in between. A client can send hundreds of calls and resets in its first packets, and the
 * server has read them all before it can cut the connection. So only one connection begins in a turn
 * at first, then twice as many in each turn while there is no flood.
 *
 * Turns are not waited for: the event loop goes on at once while connections wait.
 */
export class ConnectionPace {
  readonly #waiting = new Map<Socket, () => void>();
  #perTurn = 1;
  #left = 1;
  #vainCalls = 0;
  #turn: NodeJS.Immediate | undefined;

  /** Calls `start` now or in its turn, unless the socket closes before. The caller handles its errors. */
  begin(socket: Socket, start: () => void): void {
    if (this.#left > 0) {
      this.#left--;
      start();
    } else {
      this.#waiting.set(socket, start);
    }
    this.#turn ??= setImmediate(() => this.#nextTurn());
  }

  /** A call of a stranger has ended: it was reset, was refused, or needed no access token. */
  noteVainCall(): void {
    this.#vainCalls++;
  }

  #nextTurn(): void {
    this.#turn = undefined;
    const isFlood = this.#vainCalls > FLOOD;
    this.#vainCalls = 0;
    if (isFlood) this.#dropOldest();
    const isSlow = isFlood || this.#waiting.size === 0;
    this.#perTurn = isSlow ? 1 : Math.min(2 * this.#perTurn, MAX_PER_TURN);
    this.#left = this.#perTurn;
    for (const [socket, start] of this.#waiting) {
      if (this.#left === 0) break;
      this.#waiting.delete(socket);
      if (socket.destroyed) continue;
      this.#left--;
      start();
    }
    if (this.#waiting.size > 0) this.#turn = setImmediate(() => this.#nextTurn());
  }

  #dropOldest(): void {
    for (const [socket] of this.#waiting) {
      if (this.#waiting.size <= MAX_WAITING) break;
      this.#waiting.delete(socket);
      socket.destroy();
    }
  }
}
