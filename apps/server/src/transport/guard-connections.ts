import type { Server, Socket } from "node:net";
import type { Edge } from "../edge/edge.js";

/**
 * Has the edge see every connection of a server first, also before its TLS handshake. Call it before
 * the server listens. `onAcceptError` receives what the system says when it cannot accept one.
 */
export function guardConnections(
  server: Server,
  edge: Edge,
  onAcceptError: (error: Error) => void,
): void {
  const listeners = server.listeners("connection");
  server.removeAllListeners("connection");
  server.on("connection", (socket: Socket) => {
    if (!edge.accept(socket)) return;
    for (const listener of listeners) listener.call(server, socket);
  });
  server.once("listening", () => server.on("error", onAcceptError));
}
