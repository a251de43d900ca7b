import { IncomingMessage, ServerResponse } from "node:http";
import { createContextKey } from "@connectrpc/connect";
import type { Admitted } from "../admission/admission.js";
import type { Connection } from "../edge/connection.js";
import type { Edge } from "../edge/edge.js";
import { Link } from "../edge/linked-list.js";
import { type OpenStream, STALLED_MS, type StreamUser } from "../edge/open-stream.js";
import { Loan } from "../edge/shared-pool.js";
import type { Request, Response } from "./http-messages.js";

/** Who sent a request. */
export const httpClientKey = createContextKey<HttpClient | undefined>(undefined, {
  description: "the client that sent the request over HTTP",
});

/** The client of one request, as far as the edge knows it. */
export class HttpClient extends Link implements StreamUser {
  /** The bytes of the request, and of its answer until the client has taken them. */
  readonly memory: Loan;
  /** Its place among the calls under way. Undefined if it needs none. */
  admitted: Admitted | undefined;
  readonly #edge: Edge;
  readonly #connection: Connection;
  readonly #request: Request;
  readonly #response: Response;
  readonly #openedMs = performance.now();

  /** Undefined if the connection has closed meanwhile, or takes no more calls. */
  static of(edge: Edge, request: Request, response: Response): HttpClient | undefined {
    if (!(request instanceof IncomingMessage)) {
      const open = edge.streamOf(request.stream);
      if (open === undefined) return undefined;
      const client = new HttpClient(edge, open, request, response);
      open.user = client;
      return client;
    }
    const connection = edge.connectionOf(request.socket);
    if (connection === undefined || connection.isClosing) return undefined;
    const memory = new Loan(connection.memory);
    const client = new HttpClient(edge, { connection, memory }, request, response);
    response.once("close", () => client.onClosed());
    return client;
  }

  private constructor(
    edge: Edge,
    { connection, memory }: Pick<OpenStream, "connection" | "memory">,
    request: Request,
    response: Response,
  ) {
    super();
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

  /** The request keeps its place among the calls under way until a handler has it. */
  hold(admitted: Admitted): void {
    this.admitted = admitted;
    // The edge watches over the streams of HTTP/2 itself.
    if (this.#request instanceof IncomingMessage) this.#connection.streams.add(this);
  }

  onStalled(): void {
    this.admitted?.end();
  }

  onClosed(): void {
    this.remove();
    this.memory.end();
    this.admitted?.end();
  }

  /** Only for the edge, which asks requests of HTTP/1.1. */
  sweep(nowMs: number): undefined {
    if (!this.#request.complete && nowMs - this.#openedMs >= STALLED_MS) this.onStalled();
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
