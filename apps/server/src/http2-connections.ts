import type { Server } from "node:http";
import {
  constants,
  createServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from "node:http2";
import type { Socket } from "node:net";
import { DELIVERY_MS, MAX_CONCURRENT_STREAMS, REQUEST_TIMEOUT_MS } from "./limits.js";

/** How a connection begins whose client knows that the server speaks HTTP/2 (RFC 9113, 3.4). No method is called PRI. */
const PREFACE = "PRI";
/** How long a connection is kept on which nothing happens. */
const IDLE_TIMEOUT_MS = 5 * 60_000;

/**
 * The connections to an HTTP/1.1 server that turn out to speak HTTP/2, without TLS and
 * with prior knowledge, as proxies and gRPC clients do.
 */
export class Http2Connections {
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #sockets = new Set<Socket>();
  /** Connections that have not said anything yet. */
  readonly #silent = new Set<Socket>();
  readonly #server;
  readonly #requestTimeoutMs: number;
  #underWay = 0;
  #isClosing = false;

  /** `serve` answers the requests. A client may take half a minute to send one, unless said otherwise. */
  constructor(
    serve: (request: Http2ServerRequest, response: Http2ServerResponse) => void,
    { requestTimeoutMs = REQUEST_TIMEOUT_MS } = {},
  ) {
    this.#requestTimeoutMs = requestTimeoutMs;
    this.#server = createServer({ settings: { maxConcurrentStreams: MAX_CONCURRENT_STREAMS } });
    this.#server.on("request", (request, response) => {
      this.#underWay++;
      response.once("close", () => {
        this.#underWay--;
        this.#destroyWhenDone();
      });
      limitTime(request, requestTimeoutMs);
      serve(request, response);
    });
    this.#server.on("session", (session) => {
      this.#sessions.add(session);
      session.once("close", () => this.#sessions.delete(session));
      session.setTimeout(IDLE_TIMEOUT_MS, () => session.close());
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
        if (start === undefined) {
          socket.destroy();
        } else if (start === PREFACE) {
          // The session ends with its connection, of which a half is of no use.
          socket.allowHalfOpen = false;
          this.#sockets.add(socket);
          socket.once("close", () => this.#sockets.delete(socket));
          this.#server.emit("connection", socket);
        } else {
          for (const listener of others) listener.call(server, socket);
        }
      });
    });
  }

  /**
   * Takes no new requests. Connections close when nothing is under way on them; clients that
   * do not take what they were sent, or do not close their end, are waited for a while.
   */
  close(): void {
    this.#isClosing = true;
    for (const socket of this.#silent) socket.destroy();
    for (const session of this.#sessions) session.close();
    this.#destroyWhenDone();
  }

  /** Cuts all connections. */
  destroy(): void {
    // A session that is closing would first deliver what it has.
    for (const socket of this.#sockets) socket.destroy();
  }

  #destroyWhenDone(): void {
    if (!this.#isClosing) return;
    setTimeout(() => this.#underWay === 0 && this.destroy(), DELIVERY_MS).unref();
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

/** Ends a request that does not come to its end in time, as Node does by itself over HTTP/1.1. */
function limitTime(request: Http2ServerRequest, timeoutMs: number): void {
  const { stream } = request;
  const timer = setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), timeoutMs);
  const stop = () => clearTimeout(timer);
  stream.once("end", stop).once("close", stop);
}
