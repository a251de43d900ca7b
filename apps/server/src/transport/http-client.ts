import { IncomingMessage, ServerResponse } from "node:http";
import { createContextKey } from "@connectrpc/connect";
import type { Connection } from "../edge/connection.js";
import type { Edge } from "../edge/edge.js";
import { type OpenStream, STALLED_MS } from "../edge/open-stream.js";
import { Loan } from "../edge/shared-pool.js";
import type { Request, Response } from "./http-messages.js";

/** Who sent a request. */
export const httpClientKey = createContextKey<HttpClient | undefined>(undefined, {
  description: "the client that sent the request over HTTP",
});

/** The client of one request, as far as the edge knows it. */
export class HttpClient {
  /** The bytes of the request, and of its answer until the client has taken them. */
  readonly memory: Loan;
  readonly #edge: Edge;
  readonly #connection: Connection;
  readonly #request: Request;
  readonly #response: Response;
  readonly #openedMs = performance.now();
  #onStalled: (() => void) | undefined;

  /** Undefined if the connection has closed meanwhile, or takes no more calls. */
  static of(edge: Edge, request: Request, response: Response): HttpClient | undefined {
    if (!(request instanceof IncomingMessage)) {
      const open = edge.streamOf(request.stream);
      return open && new HttpClient(edge, open, request, response);
    }
    const connection = edge.connectionOf(request.socket);
    if (connection === undefined || connection.isClosing) return undefined;
    const memory = new Loan(connection.memory);
    const client = new HttpClient(edge, { connection, memory }, request, response);
    response.once("close", () => {
      memory.end();
      connection.streams.delete(client);
    });
    return client;
  }

  private constructor(
    edge: Edge,
    { connection, memory }: Pick<OpenStream, "connection" | "memory">,
    request: Request,
    response: Response,
  ) {
    this.memory = memory;
    this.#edge = edge;
    this.#connection = connection;
    this.#request = request;
    this.#response = response;
  }

  /** Whether the connection should take no more requests. */
  get isOld(): boolean {
    return this.#connection.isOld;
  }

  /** Calls the listener if the request takes its time to come. */
  whenStalled(listener: () => void): void {
    if (!(this.#request instanceof IncomingMessage)) {
      this.#edge.streamOf(this.#request.stream)?.whenStalled(listener);
      return;
    }
    this.#onStalled = listener;
    this.#connection.streams.add(this);
  }

  /** Only for the edge, which asks requests of HTTP/1.1. */
  sweep(nowMs: number): undefined {
    if (!this.#request.complete && nowMs - this.#openedMs >= STALLED_MS) this.#onStalled?.();
  }

  /** The request has a valid access token. */
  welcome(): void {
    this.#connection.welcome();
  }

  /**
   * The request needs no access token, or its path is unknown. After too many of these the connection
   * closes.
   */
  countUnauthenticated(): void {
    const isOneTooMany = !this.#edge.countUnauthenticated(this.#connection);
    // The edge tells a client of HTTP/2 itself.
    if (isOneTooMany && this.#response instanceof ServerResponse) {
      this.#response.shouldKeepAlive = false;
    }
  }
}
