import { constants, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import { Connection } from "./connection.js";
import type { CutReason } from "./cut-reasons.js";
import type { EdgeLimits } from "./edge-limits.js";
import { OpenStream } from "./open-stream.js";
import { type Share, SharedPool } from "./shared-pool.js";
import { Slot } from "./slot.js";

/** How often we look for what is too slow. */
const SWEEP_MS = 1_000;
/**
 * Open streams of services that need no access token, of all connections: who watches the health of
 * the server needs one for each of its connections.
 */
const MAX_UNAUTHENTICATED_STREAMS = 1_000;
/** Streams on a connection until somebody with a valid access token calls on it. */
const STRANGERS_STREAMS = 100;

/** The addresses of a socket, also of one that TLS or HTTP/2 stands on. */
type Addressed = Pick<Socket, "remoteAddress" | "remotePort" | "localPort">;

/**
 * Bounds what clients can make the server hold: sockets, streams and bytes, of both ports together,
 * and for how long. It knows nothing of calls. The ports tell it what happens, and ask it first.
 *
 * A connection is a stranger's until a valid access token comes over it. Strangers get less of
 * everything, and the oldest of their connections gives way when there are too many.
 */
export class Edge implements Disposable {
  readonly limits: EdgeLimits;
  readonly #memory: SharedPool;
  readonly #streams: SharedPool;
  readonly #unauthenticated = new SharedPool(MAX_UNAUTHENTICATED_STREAMS);
  readonly #connections = new Map<string, Connection>();
  /** The oldest first. */
  readonly #strangers = new Set<Connection>();
  readonly #sessions = new Slot<ServerHttp2Session, Connection>();
  readonly #openStreams = new Slot<ServerHttp2Stream, OpenStream>();
  readonly #onCut: (reason: CutReason) => void;
  readonly #sweeping: NodeJS.Timeout;

  constructor(limits: EdgeLimits, onCut: (reason: CutReason) => void = () => {}) {
    this.limits = limits;
    this.#memory = new SharedPool(limits.maxBufferedBytes);
    this.#streams = new SharedPool(limits.maxStreams);
    this.#onCut = onCut;
    const leastMs = Math.min(limits.requestTimeoutMs, limits.maxConnectionAgeMs);
    const sweepMs = Math.min(SWEEP_MS, leastMs / 4);
    this.#sweeping = setInterval(() => this.#sweep(), sweepMs).unref();
  }

  /** How many sockets are open. */
  get connections(): number {
    return this.#connections.size;
  }

  /** What unfinished requests and untaken answers hold. In bytes. */
  get bufferedBytes(): number {
    return this.#memory.held;
  }

  /** A share of the buffered bytes for what belongs to no connection. */
  joinMemory(): Share {
    return this.#memory.join();
  }

  /** The settings that a new HTTP/2 connection begins with. */
  get http2Settings() {
    return {
      maxConcurrentStreams: Math.min(STRANGERS_STREAMS, this.limits.maxStreamsPerConnection),
      maxHeaderListSize: this.limits.maxHeaderBytes,
    };
  }

  /** Takes a new socket. Returns false if there are too many, and has destroyed it. */
  accept(socket: Socket): boolean {
    if (this.#connections.size >= this.limits.maxConnections) {
      this.#onCut("connections_full");
      const [oldest] = this.#strangers;
      if (oldest === undefined) {
        socket.destroy();
        return false;
      }
      this.#forget(oldest);
      oldest.destroy();
    }
    const shares = {
      memory: this.#memory.join(),
      streams: this.#streams.join(),
      open: this.#unauthenticated.join(),
    };
    const connection = new Connection(socket, shares, this.limits, () =>
      this.#strangers.delete(connection),
    );
    const key = keyOf(socket);
    this.#connections.set(key, connection);
    this.#strangers.add(connection);
    socket.once("close", () => {
      this.#strangers.delete(connection);
      if (this.#connections.get(key) === connection) this.#connections.delete(key);
    });
    return true;
  }

  /** The connection of an accepted socket, or of what stands on it. Undefined if it has closed. */
  connectionOf(socket: Addressed | undefined): Connection | undefined {
    return socket === undefined ? undefined : this.#connections.get(keyOf(socket));
  }

  /** Takes a new HTTP/2 session on an accepted socket. */
  takeSession(session: ServerHttp2Session): void {
    const connection = this.connectionOf(session.socket);
    if (connection === undefined) {
      setImmediate(() => session.destroy());
      return;
    }
    this.#sessions.set(session, connection);
    connection.beginHttp2(session);
    // Node tells of the streams in a connection's first bytes late: those that the client has reset are
    // closed by then, and nobody takes them.
    session.on("stream", (stream: ServerHttp2Stream) => {
      if (stream.destroyed) this.#countIfReset(stream, connection);
    });
  }

  /** Whether the connection of a new stream is about to be cut, so that nothing needs to be answered. */
  hasCut(stream: ServerHttp2Stream): boolean {
    return this.#connectionUnder(stream)?.isCut !== false;
  }

  /** Takes a new stream. Returns undefined if there are too many, or if its connection has closed. */
  takeStream(stream: ServerHttp2Stream): OpenStream | undefined {
    const connection = this.#connectionUnder(stream);
    if (connection?.streamShare.take(1) !== true) return undefined;
    const open = new OpenStream(stream, connection);
    this.#openStreams.set(stream, open);
    connection.streams.add(open);
    stream.once("close", () => {
      open.end();
      connection.streamShare.give(1);
      connection.noteClosed();
      this.#countIfReset(stream, connection);
    });
    return open;
  }

  /** What `takeStream` made of this stream. */
  streamOf(stream: ServerHttp2Stream): OpenStream | undefined {
    return this.#openStreams.get(stream);
  }

  /**
   * Counts a call that needs no access token, or a call of an unknown path. Returns false if the
   * connection has made too many: it closes as soon as its other calls are answered.
   */
  countUnauthenticated(connection: Connection): boolean {
    if (connection.countUnauthenticated()) return true;
    if (!connection.isClosing) {
      this.#onCut("unauthenticated_calls");
      connection.close();
    }
    return false;
  }

  /** Cuts the connections that have not begun to speak: a server that stops would wait for them. */
  cutSilent(): void {
    for (const connection of this.#connections.values()) {
      if (!connection.hasBegun) connection.destroy();
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#sweeping);
  }

  /** Undefined if the stream or its connection has closed. */
  #connectionUnder({ session }: ServerHttp2Stream): Connection | undefined {
    return session && this.#sessions.get(session as ServerHttp2Session);
  }

  /**
   * A client that resets its calls before the answer costs as much as one that is refused. But a known
   * caller's deadlines may reset many calls at once: Node's own limit is enough for these.
   */
  #countIfReset(stream: ServerHttp2Stream, connection: Connection): void {
    if (stream.rstCode !== constants.NGHTTP2_CANCEL) return;
    if (connection.isKnown || connection.isClosing || connection.countUnauthenticated()) return;
    this.#onCut("resets");
    connection.calm();
  }

  #forget(connection: Connection): void {
    this.#strangers.delete(connection);
    this.#connections.delete(keyOf(connection.socket));
  }

  #sweep(): void {
    const nowMs = performance.now();
    for (const connection of this.#connections.values()) {
      const reason = connection.sweep(nowMs);
      if (reason !== undefined) this.#onCut(reason);
    }
  }
}

/** No two open connections have the same. Public on every kind of socket, unlike the raw one below. */
function keyOf({ remoteAddress, remotePort, localPort }: Addressed): string {
  return `${remoteAddress} ${remotePort} ${localPort}`;
}
