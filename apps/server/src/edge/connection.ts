import { constants, type ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import { jitteredAgeMs, OLD_CONNECTION_GRACE_MS } from "./connection-age.js";
import type { CutReason } from "./cut-reasons.js";
import type { EdgeLimits } from "./edge-limits.js";
import { type Link, LinkedList } from "./linked-list.js";
import type { Share } from "./shared-pool.js";

/**
 * Calls that need no access token, and calls of unknown paths, that a stranger's connection may make
 * at once, and per second. More than a health check needs, and so few that they delay nobody.
 */
const UNAUTHENTICATED_CALLS = 100;
const UNAUTHENTICATED_CALLS_PER_S = 20;
/** How many times as many a known caller's connection may make: a proxy's has callers of all kinds. */
const KNOWN_FACTOR = 10;

/** A closing connection has this time to take what we sent. Then it is cut. */
const CLOSING_MS = 1_000;

/** What a sweep looks at on a connection. */
interface Swept extends Link {
  /** Ends what is too slow, and says why. */
  sweep(nowMs: number): CutReason | undefined;
}

/** What one socket does. Only the edge makes them. */
export class Connection {
  readonly socket: Socket;
  readonly limits: EdgeLimits;
  /** Its share of the bytes that unfinished requests and untaken answers hold. */
  readonly memory: Share;
  readonly streamShare: Share;
  /** Its share of the open streams that need no access token: health watches and reflection. */
  readonly openShare: Share;
  /** Its HTTP/2 streams, and its HTTP/1.1 requests that may stall. */
  readonly streams = new LinkedList<Swept>();
  /** Whether somebody has shown a valid access token on it. */
  isKnown = false;
  /** Whether its client speaks HTTP by now. */
  hasBegun = false;
  /** Whether it is about to be cut. Nothing that still arrives on it is looked at. */
  isCut = false;
  readonly #closeAtMs: number;
  readonly #onKnown: () => void;
  #session: ServerHttp2Session | undefined;
  #quietSinceMs = performance.now();
  #closingSinceMs: number | undefined;
  #unauthenticatedCalls = 0;
  #unauthenticatedMs = 0;

  constructor(
    socket: Socket,
    shares: { readonly memory: Share; readonly streams: Share; readonly open: Share },
    limits: EdgeLimits,
    onKnown: () => void,
  ) {
    this.socket = socket;
    this.memory = shares.memory;
    this.streamShare = shares.streams;
    this.openShare = shares.open;
    this.limits = limits;
    this.#closeAtMs = performance.now() + jitteredAgeMs(limits.maxConnectionAgeMs);
    this.#onKnown = onKnown;
  }

  /** From now on the HTTP/1.1 server watches over the times of this connection. */
  beginHttp1(): void {
    this.hasBegun = true;
  }

  beginHttp2(session: ServerHttp2Session): void {
    this.hasBegun = true;
    this.#session = session;
  }

  /** One of its streams has closed. */
  noteClosed(): void {
    if (this.streams.isEmpty) this.#quietSinceMs = performance.now();
  }

  /** Somebody with a valid access token calls on this connection. */
  welcome(): void {
    if (this.isKnown) return;
    this.isKnown = true;
    this.#onKnown();
    const { maxStreamsPerConnection: maxConcurrentStreams } = this.limits;
    this.#liveSession?.settings({ maxConcurrentStreams });
  }

  /**
   * Counts a call that needs no access token, a call of an unknown path, or a stranger's reset.
   * Returns false if it is one too many.
   */
  countUnauthenticated(): boolean {
    const factor = this.isKnown ? KNOWN_FACTOR : 1;
    const nowMs = performance.now();
    const passedS = (nowMs - this.#unauthenticatedMs) / 1000;
    const forgotten = passedS * UNAUTHENTICATED_CALLS_PER_S * factor;
    this.#unauthenticatedCalls = Math.max(0, this.#unauthenticatedCalls - forgotten) + 1;
    this.#unauthenticatedMs = nowMs;
    // The client goes on although its connection is closing.
    if (this.#unauthenticatedCalls > 2 * UNAUTHENTICATED_CALLS * factor) this.calm();
    return this.#unauthenticatedCalls <= UNAUTHENTICATED_CALLS * factor;
  }

  /** Undefined if it has ended: Node throws if such a session is told something. */
  get #liveSession(): ServerHttp2Session | undefined {
    const session = this.#session;
    return session?.closed || session?.destroyed ? undefined : session;
  }

  get isClosing(): boolean {
    return this.#closingSinceMs !== undefined;
  }

  /** Whether it should take no more calls. With HTTP/1.1, only an answer can say so. */
  get isOld(): boolean {
    return performance.now() >= this.#closeAtMs;
  }

  /**
   * Tells the client which calls the server still answers, and closes the connection after them.
   * Calls that are on their way are not taken, so the client knows that it may repeat them (RFC 9113,
   * 6.8).
   */
  close(): void {
    if (this.isClosing) return;
    this.#closingSinceMs = performance.now();
    // Not in the middle of a chunk of frames.
    setImmediate(() => this.#liveSession?.close());
  }

  /** Cuts the connection, and tells its client to be calmer (RFC 9113, 7). */
  calm(): void {
    this.#closingSinceMs ??= performance.now();
    if (this.isCut || this.#session === undefined) return;
    this.isCut = true;
    // Not now: it may be in the middle of a chunk of frames, and a session that ends there makes Node
    // abort the process (docs/adr/0020-bounds-in-front-of-libraries.md).
    setImmediate(() => {
      this.#liveSession?.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM);
      setImmediate(() => this.destroy());
    });
  }

  /** Cuts the connection now. */
  destroy(): void {
    // A session that is destroyed would first deliver its data.
    this.socket.destroy();
  }

  /** Closes or cuts what is too slow, and says why. */
  sweep(nowMs: number): CutReason | undefined {
    const { requestTimeoutMs, connectionIdleMs } = this.limits;
    const quietMs = nowMs - this.#quietSinceMs;
    if (!this.hasBegun) {
      if (quietMs < requestTimeoutMs) return undefined;
      this.destroy();
      return "silent";
    }
    let reason: CutReason | undefined;
    for (const stream of this.streams.toArray()) reason = stream.sweep(nowMs) ?? reason;
    if (this.#session === undefined) return reason;
    if (nowMs >= this.#closeAtMs) this.close();
    if (nowMs >= this.#closeAtMs + OLD_CONNECTION_GRACE_MS) this.destroy();
    const closingMs = nowMs - (this.#closingSinceMs ?? nowMs);
    if (!this.streams.isEmpty) return reason;
    if (this.isClosing) {
      if (Math.min(closingMs, quietMs) >= CLOSING_MS) this.destroy();
    } else if (quietMs >= (this.isKnown ? connectionIdleMs : requestTimeoutMs)) {
      this.close();
      return this.isKnown ? "idle" : "silent";
    }
    return reason;
  }
}
