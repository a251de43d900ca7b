import type { Server } from "node:http";
import {
  createServer,
  type Http2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
} from "node:http2";
import type { Socket } from "node:net";
import { Server as TlsServer } from "node:tls";
import type { Connection } from "../edge/connection.js";
import type { Edge } from "../edge/edge.js";
import { toConnectError } from "../services/rpc-error.js";
import { errorAnswer, writeAnswer } from "./error-answer.js";
import { hasGone } from "./http-messages.js";
import { tooMuchAtOnce } from "./too-much.js";

/** HTTP/2 with prior knowledge starts like this (RFC 9113, 3.4). No HTTP method is PRI. */
const PREFACE = "PRI";

/** In megabytes. */
const UNBOUNDED = Number.MAX_SAFE_INTEGER;

type Serve = (request: Http2ServerRequest, response: Http2ServerResponse) => void;

/**
 * The HTTP/2 connections on an HTTP/1.1 server's port: without TLS and with prior knowledge, as
 * proxies and gRPC clients use them.
 */
export class Http2Connections {
  readonly #connections = new Set<Connection>();
  readonly #server: Http2Server;
  readonly #edge: Edge;

  constructor(serve: Serve, edge: Edge) {
    this.#edge = edge;
    this.#server = createServer({
      settings: edge.http2Settings,
      // By default Node resets new streams while a connection holds 10 MB, without a word. The edge has
      // its own bound, refuses calls with OVERLOADED, and counts them.
      maxSessionMemory: UNBOUNDED,
    });
    this.#server.on("session", (session) => edge.takeSession(session));
    const tooManyStreams = errorAnswer(toConnectError(tooMuchAtOnce("streams")));
    const take: Serve = (request, response) => {
      if (edge.hasCut(response.stream)) return;
      if (edge.takeStream(response.stream) === undefined)
        writeAnswer(request, response, tooManyStreams);
      else serve(request, response);
    };
    this.#server.on("request", take);
    // HTTP lets a server ignore what it does not know (RFC 9110, 10.1.1). Node alone would refuse it.
    this.#server.on("checkExpectation", take);
    this.#server.on("checkContinue", (request, response) => {
      // Node alone throws if the stream was reset in the same turn of the event loop.
      if (!hasGone(response)) response.writeContinue();
      take(request, response);
    });
    // A client's broken connection is no fault of ours: no log.
    this.#server.on("sessionError", (_error, session) => session.destroy());
  }

  /**
   * Takes the HTTP/2 connections from a server. The server keeps the others. The edge lets go of a
   * client that does not begin to speak.
   */
  takeFrom(server: Server): void {
    // With TLS a connection begins when its handshake is complete.
    const event = server instanceof TlsServer ? "secureConnection" : "connection";
    const others = server.listeners(event);
    server.removeAllListeners(event);
    server.on(event, (socket: Socket) => {
      whenBegun(socket, (start) => {
        if (start === undefined) return socket.destroy();
        if (start === PREFACE) return this.#take(socket);
        this.#edge.connectionOf(socket)?.beginHttp1();
        for (const listener of others) listener.call(server, socket);
      });
    });
  }

  /** Takes no new requests. Each connection closes after its last call. */
  close(): void {
    for (const connection of this.#connections) connection.close();
  }

  /** Cuts all connections. */
  destroy(): void {
    for (const connection of this.#connections) connection.destroy();
  }

  #take(socket: Socket): void {
    const connection = this.#edge.connectionOf(socket);
    if (connection === undefined) return void socket.destroy();
    this.#connections.add(connection);
    socket.once("close", () => this.#connections.delete(connection));
    // HTTP/2 cannot use a half-open socket, so close both directions together.
    socket.allowHalfOpen = false;
    this.#server.emit("connection", socket);
  }
}

/**
 * Calls the listener with a connection's first three bytes, or undefined if it ends before. The bytes
 * go back to the socket.
 */
function whenBegun(socket: Socket, listener: (start: string | undefined) => void): void {
  let head = Buffer.alloc(0);
  const settle = (start: string | undefined) => {
    socket.off("readable", onReadable).off("close", giveUp).off("error", giveUp).off("end", giveUp);
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
  socket.on("readable", onReadable).on("close", giveUp).on("error", giveUp).on("end", giveUp);
}
