import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { LOOPBACK } from "./free-port.js";
import { OneWayRelay } from "./one-way-relay.js";

/** Where a proxy sends what it receives. */
export interface TcpFaultProxyOptions {
  readonly host: string;
  readonly port: number;
}

type Fault =
  | { readonly kind: "none" | "refuse" | "half-open" }
  | { readonly kind: "delay"; readonly delayMs: number }
  | { readonly kind: "drop-replies"; readonly chunks: number };

interface Connection {
  readonly sockets: readonly Socket[];
  readonly relays: readonly OneWayRelay[];
  hasLostBytes: boolean;
}

/** Starts a proxy that passes everything until it is told otherwise. */
export async function startTcpFaultProxy(target: TcpFaultProxyOptions): Promise<TcpFaultProxy> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }).listen(0, LOOPBACK);
  await once(server, "listening");
  return new TcpFaultProxy(server, target);
}

/**
 * A TCP proxy on loopback, in this process, whose network can be made to fail. It
 * has one fault at a time: each call ends the one before, but for `cut`, which
 * happens once. As with TCP, a connection either delivers all its bytes, however
 * late, or ends.
 */
export class TcpFaultProxy implements AsyncDisposable {
  readonly port: number;
  readonly #server: Server;
  readonly #target: TcpFaultProxyOptions;
  readonly #connections = new Set<Connection>();
  #fault: Fault = { kind: "none" };

  constructor(server: Server, target: TcpFaultProxyOptions) {
    this.#server = server.on("connection", (client) => this.#accept(client));
    this.#target = target;
    this.port = (server.address() as AddressInfo).port;
  }

  /** Ends the fault. What was held back is delivered now. */
  pass(): void {
    this.#setFault({ kind: "none" });
  }

  /** Destroys all connections now. New ones are treated as before. */
  cut(): void {
    for (const connection of this.#connections) destroy(connection);
  }

  /** Destroys all connections, and new ones at once. */
  refuse(): void {
    this.#setFault({ kind: "refuse" });
    this.cut();
  }

  /** Delivers everything, in both directions, that long after it arrived. */
  delay(delayMs: number): void {
    this.#setFault({ kind: "delay", delayMs });
  }

  /**
   * Nothing comes back from the server, not even the end of a connection; what
   * clients send still arrives there.
   */
  halfOpen(): void {
    this.#setFault({ kind: "half-open" });
  }

  /**
   * Swallows the next chunks from the server, whichever connections they are on,
   * then destroys these connections and passes everything again: what the
   * commands did is done, and their replies are lost. A chunk is what one read
   * from the socket gave: one reply, if commands are sent one by one. Throws a
   * RangeError unless `chunks` is a positive integer.
   */
  dropReplies(chunks: number): void {
    if (!Number.isInteger(chunks) || chunks < 1)
      throw new RangeError("expected at least one chunk");
    this.#setFault({ kind: "drop-replies", chunks });
  }

  /** Destroys all connections and listens no longer. Fine when it has stopped already. */
  async stop(): Promise<void> {
    this.cut();
    if (!this.#server.listening) return;
    this.#server.close();
    await once(this.#server, "close");
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  #setFault(fault: Fault): void {
    this.#fault = fault;
    for (const connection of this.#connections) {
      // What follows a gap must not be taken for what was lost.
      if (connection.hasLostBytes) destroy(connection);
      else for (const relay of connection.relays) relay.flush();
    }
  }

  #accept(client: Socket): void {
    if (this.#fault.kind === "refuse") {
      client.destroy();
      return;
    }
    const server = connect({ ...this.#target, allowHalfOpen: true, noDelay: true });
    const toServer = { delayMs: () => this.#delayMs(), isLost: () => false };
    const toClient = {
      delayMs: () =>
        this.#fault.kind === "half-open" ? Number.POSITIVE_INFINITY : this.#delayMs(),
      isLost: () => this.#loses(connection),
    };
    const connection: Connection = {
      sockets: [client, server],
      relays: [
        new OneWayRelay(client, server, toServer),
        new OneWayRelay(server, client, toClient),
      ],
      hasLostBytes: false,
    };
    this.#connections.add(connection);
    for (const socket of connection.sockets) {
      socket.once("close", () => {
        if (client.destroyed && server.destroyed) this.#connections.delete(connection);
      });
    }
  }

  #delayMs(): number {
    return this.#fault.kind === "delay" ? this.#fault.delayMs : 0;
  }

  #loses(connection: Connection): boolean {
    const fault = this.#fault;
    if (fault.kind !== "drop-replies") return false;
    connection.hasLostBytes = true;
    if (fault.chunks === 1) this.pass();
    else this.#fault = { ...fault, chunks: fault.chunks - 1 };
    return true;
  }
}

function destroy({ sockets }: Connection): void {
  for (const socket of sockets) socket.destroy();
}
