import type { Server } from "node:http";
import type { Socket } from "node:net";
import { Server as TlsServer } from "node:tls";

/** The connections of a server with TLS that have not finished their handshake. */
export class UnfinishedHandshakes {
  readonly #sockets = new Map<string, Socket>();

  /** Watches the connections of a server. One without TLS has no handshakes. */
  constructor(server: Server) {
    if (!(server instanceof TlsServer)) return;
    server.on("connection", (socket: Socket) => {
      const key = keyOf(socket);
      this.#sockets.set(key, socket);
      socket.once("close", () => this.#sockets.delete(key));
    });
    server.on("secureConnection", (socket) => this.#sockets.delete(keyOf(socket)));
  }

  /** Cuts them: a server that closes would wait for them. */
  destroy(): void {
    for (const socket of this.#sockets.values()) socket.destroy();
  }
}

/** Node does not say which connection a TLS socket stands on, but it has the same peer. */
function keyOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
