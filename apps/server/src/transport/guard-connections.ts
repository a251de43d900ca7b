import type { Server, Socket } from "node:net";
import { Server as TlsServer } from "node:tls";
import type { Edge } from "../edge/edge.js";

/**
 * Has the edge see every connection of a server first, also before its TLS handshake, and lets HTTP
 * begin on it in its turn, once its client has sent something. Call it before the server listens.
 * `onAcceptError` receives what the system says when it cannot accept a connection.
 */
export function guardConnections(
  server: Server,
  edge: Edge,
  onAcceptError: (error: Error) => void,
): void {
  const begins = server instanceof TlsServer ? "secureConnection" : "connection";
  intercept(server, begins, (socket, next) => {
    // Without a listener, a client's reset would end the process.
    socket.on("error", ignore);
    // Its first calls come with these bytes. An end is readable, too.
    socket.once("readable", () => {
      edge.pace.begin(socket, () => {
        socket.off("error", ignore);
        next();
      });
    });
  });
  intercept(server, "connection", (socket, next) => {
    if (edge.accept(socket)) next();
  });
  server.once("listening", () => server.on("error", onAcceptError));
}

/** Calls `take` for each socket of an event. `next` calls the listeners that the event has now. */
function intercept(
  server: Server,
  event: string,
  take: (socket: Socket, next: () => void) => void,
): void {
  const listeners = server.listeners(event);
  server.removeAllListeners(event);
  server.on(event, (socket: Socket) => {
    take(socket, () => {
      for (const listener of listeners) listener.call(server, socket);
    });
  });
}

function ignore(): void {}
