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
import { Server as TlsServer } from "node:tls";
import { jitteredAgeMs, OLD_CONNECTION_GRACE_MS } from "./connection-age.js";
import { DELIVERY_MS, MAX_CONCURRENT_STREAMS, REQUEST_TIMEOUT_MS } from "./limits.js";

/** HTTP/2 with prior knowledge starts like this (RFC 9113, 3.4). No HTTP method is PRI. */
const PREFACE = "PRI";
/** A connection without a call closes after this time without data from its client. */
const IDLE_TIMEOUT_MS = 5 * 60_000;

type Serve = (request: Http2ServerRequest, response: Http2ServerResponse) => void;

/**
 * The HTTP/2 connections on an HTTP/1.1 server's port: without TLS and with prior knowledge, as
 * proxies and gRPC clients use them.
 */
export class Http2Connections {
  readonly #connections = new Set<Connection>();
  /** Connections that have not sent three bytes yet. */
  readonly #silent = new Set<Socket>();
  readonly #server: Http2Server;
  readonly #requestTimeoutMs: number;
  readonly #idleTimeoutMs: number;
  readonly #maxAgeMs: number | undefined;

  constructor(
    serve: Serve,
    { requestTimeoutMs = REQUEST_TIMEOUT_MS, idleTimeoutMs = IDLE_TIMEOUT_MS } = {},
    maxAgeMs?: number,
  ) {
    this.#maxAgeMs = maxAgeMs;
    this.#requestTimeoutMs = requestTimeoutMs;
    this.#idleTimeoutMs = idleTimeoutMs;
    this.#server = createServer({ settings: { maxConcurrentStreams: MAX_CONCURRENT_STREAMS } });
    this.#server.on("request", (request, response) => {
      limitTime(response, requestTimeoutMs);
      serve(request, response);
    });
    // A client's broken connection is no fault of ours: no log.
    this.#server.on("sessionError", (_error, session) => session.destroy());
  }

  /** Takes the HTTP/2 connections from a server. The server keeps the others. */
  takeFrom(server: Server): void {
    // With TLS a connection begins when its handshake is complete.
    const event = server instanceof TlsServer ? "secureConnection" : "connection";
    const others = server.listeners(event);
    server.removeAllListeners(event);
    server.on(event, (socket: Socket) => {
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
   * Takes no new requests. A connection closes after its last call, with some time for clients to
   * read what we sent.
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
    // The session begins before `emit` returns.
    this.#server.once("session", (session) => {
      const connection = new Connection(socket, session, this.#idleTimeoutMs);
      this.#connections.add(connection);
      if (this.#maxAgeMs !== undefined) connection.limitAge(this.#maxAgeMs);
      socket.once("close", () => this.#connections.delete(connection));
    });
    this.#server.emit("connection", socket);
  }
}

class Connection {
  readonly #socket: Socket;
  readonly #session: ServerHttp2Session;
  #underWay = 0;
  #isClosing = false;

  constructor(socket: Socket, session: ServerHttp2Session, idleTimeoutMs: number) {
    this.#socket = socket;
    this.#session = session;
    // HTTP/2 cannot use a half-open socket, so close both directions together.
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

  /** Sends GOAWAY after about this time: the client makes its next call over another connection. */
  limitAge(maxAgeMs: number): void {
    const ageMs = jitteredAgeMs(maxAgeMs);
    const close = setTimeout(() => this.close(), ageMs).unref();
    const cut = setTimeout(() => this.destroy(), ageMs + OLD_CONNECTION_GRACE_MS).unref();
    this.#socket.once("close", () => {
      clearTimeout(close);
      clearTimeout(cut);
    });
  }

  destroy(): void {
    // A closing session would first deliver its data.
    this.#socket.destroy();
  }

  /** A client may never close its end, or never read the rest. */
  #destroyWhenDone(): void {
    if (!this.#isClosing || this.#underWay > 0) return;
    setTimeout(() => this.destroy(), DELIVERY_MS).unref();
  }
}

/**
 * Calls the listener with a connection's first three bytes, or undefined if it ends before or takes
 * too long. The bytes go back to the socket.
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

/** Resets a request that does not end in time, and a response that its client does not read. */
function limitTime(response: Http2ServerResponse, timeoutMs: number): void {
  const { stream } = response;
  const reset = () => stream.close(constants.NGHTTP2_CANCEL);
  const timer = setTimeout(reset, timeoutMs);
  const stop = () => clearTimeout(timer);
  stream.once("end", stop).once("close", stop);
  // A call that waits for a lock is silent for longer before its answer.
  stream.setTimeout(timeoutMs, () => response.headersSent && reset());
}
