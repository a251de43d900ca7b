import type { Server } from "node:http";
import {
  constants,
  createServer,
  type Http2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from "node:http2";
import type { Socket } from "node:net";
import { DELIVERY_MS, MAX_CONCURRENT_STREAMS, REQUEST_TIMEOUT_MS } from "./limits.js";

/** How a connection begins whose client knows that the server speaks HTTP/2 (RFC 9113, 3.4). No method is called PRI. */
const PREFACE = "PRI";
/** After how long without a sign of its client a connection is closed, unless a call is under way on it. */
const IDLE_TIMEOUT_MS = 5 * 60_000;

/** Answers a request. */
type Serve = (request: Http2ServerRequest, response: Http2ServerResponse) => void;

/**
 * The connections to an HTTP/1.1 server that turn out to speak HTTP/2, without TLS and
 * with prior knowledge, as proxies and gRPC clients do.
 */
export class Http2Connections {
  readonly #connections = new Set<Connection>();
  /** Connections that have not said anything yet. */
  readonly #silent = new Set<Socket>();
  readonly #server: Http2Server;
  readonly #requestTimeoutMs: number;
  readonly #idleTimeoutMs: number;

  /** A request may take half a minute to arrive, and a connection be idle for five, unless said otherwise. */
  constructor(
    serve: Serve,
    { requestTimeoutMs = REQUEST_TIMEOUT_MS, idleTimeoutMs = IDLE_TIMEOUT_MS } = {},
  ) {
    this.#requestTimeoutMs = requestTimeoutMs;
    this.#idleTimeoutMs = idleTimeoutMs;
    this.#server = createServer({ settings: { maxConcurrentStreams: MAX_CONCURRENT_STREAMS } });
    this.#server.on("request", (request, response) => {
      limitTime(request, response, requestTimeoutMs);
      serve(request, response);
    });
    // A connection that breaks, or never was HTTP/2, is its client's affair.
    this.#server.on("sessionError", (_error, session) => session.destroy());
  }

  /** Looks at how each connection of a server begins, and leaves to it those that begin otherwise. */
  takeFrom(server: Server): void {
    const others = server.listeners("connection");
    server.removeAllListeners("connection");
    server.on("connection", (socket: Socket) => {
      this.#silent.add(socket);
      whenBegun(socket, this.#requestTimeoutMs, (start) => {
        this.#silent.delete(socket);
        if (start === undefined) socket.destroy();
        else if (start === PREFACE) this.#take(socket);
        else for (const listener of others) listener.call(server, socket);
      });
    });
  }

  /**
   * Takes no new requests. Connections close when nothing is under way on them; clients that
   * do not take what they were sent, or do not close their end, are waited for a while.
   */
  close(): void {
    for (const socket of this.#silent) socket.destroy();
    for (const connection of this.#connections) connection.close();
  }

  /** Cuts all connections. */
  destroy(): void {
    for (const connection of this.#connections) connection.destroy();
  }

  #take(socket: Socket): void {
    // Its session begins before `emit` returns.
    this.#server.once("session", (session) => {
      const connection = new Connection(socket, session, this.#idleTimeoutMs);
      this.#connections.add(connection);
      socket.once("close", () => this.#connections.delete(connection));
    });
    this.#server.emit("connection", socket);
  }
}

/** A connection that speaks HTTP/2. */
class Connection {
  readonly #socket: Socket;
  readonly #session: ServerHttp2Session;
  #underWay = 0;
  #isClosing = false;

  constructor(socket: Socket, session: ServerHttp2Session, idleTimeoutMs: number) {
    this.#socket = socket;
    this.#session = session;
    // The session ends with its connection, of which a half is of no use.
    socket.allowHalfOpen = false;
    session.setTimeout(idleTimeoutMs, () => this.close());
    session.on("stream", (stream) => {
      this.#underWay++;
      stream.once("close", () => {
        this.#underWay--;
        this.#destroyWhenDone();
      });
    });
  }

  close(): void {
    this.#isClosing = true;
    this.#session.close();
    this.#destroyWhenDone();
  }

  destroy(): void {
    // A session that is closing would first deliver what it has.
    this.#socket.destroy();
  }

  /** No client is trusted to close its end, or to take what is left. */
  #destroyWhenDone(): void {
    if (!this.#isClosing || this.#underWay > 0) return;
    setTimeout(() => this.destroy(), DELIVERY_MS).unref();
  }
}

/**
 * Says what the first three bytes of a connection are, as soon as they are here; undefined where it ends
 * before, or takes too long. They are still to be read.
 */
function whenBegun(
  socket: Socket,
  timeoutMs: number,
  listener: (start: string | undefined) => void,
): void {
  let head = Buffer.alloc(0);
  const settle = (start: string | undefined) => {
    socket.off("readable", onReadable).off("close", giveUp).off("error", giveUp).off("end", giveUp);
    socket.setTimeout(0).off("timeout", giveUp);
    if (start !== undefined) socket.unshift(head);
    listener(start);
  };
  const giveUp = () => settle(undefined);
  const onReadable = () => {
    for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) {
      head = Buffer.concat([head, chunk]);
    }
    if (head.length >= PREFACE.length) settle(head.toString("latin1", 0, PREFACE.length));
  };
  socket.setTimeout(timeoutMs).on("timeout", giveUp);
  socket.on("readable", onReadable).on("close", giveUp).on("error", giveUp).on("end", giveUp);
}

/**
 * Resets a request that does not come to its end in time, and a response that its client
 * takes nothing of for as long.
 */
function limitTime(
  request: Http2ServerRequest,
  response: Http2ServerResponse,
  timeoutMs: number,
): void {
  const { stream } = request;
  const reset = () => stream.close(constants.NGHTTP2_CANCEL);
  const timer = setTimeout(reset, timeoutMs);
  const stop = () => clearTimeout(timer);
  stream.once("end", stop).once("close", stop);
  // Some calls are silent for longer until they are answered: they wait for a lock.
  stream.setTimeout(timeoutMs, () => response.headersSent && reset());
}
