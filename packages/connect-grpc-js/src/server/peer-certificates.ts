import { type TLSSocket, Server as TlsServer } from "node:tls";
import type { Server } from "@grpc/grpc-js";
import { onHttp2Server } from "./http2-servers.js";

/**
 * Makes `call.getAuthContext()` of a grpc-js server cheap, from the next `bindAsync` on: it asks for
 * the client's certificate at each call, and Node parses it each time, for longer than the rest of
 * a call takes.
 */
export function rememberPeerCertificates(server: Server): void {
  onHttp2Server(server, (http2) => {
    // Only a server with TLS has this event.
    if (http2 instanceof TlsServer) http2.on("secureConnection", rememberPeerCertificate);
  });
}

/**
 * Makes `getPeerCertificate()` of a socket return the same object each time. The certificate of a
 * connection never changes: TLS 1.3 has no renegotiation, and HTTP/2 forbids it.
 */
export function rememberPeerCertificate(socket: TLSSocket): void {
  const certificate = socket.getPeerCertificate();
  socket.getPeerCertificate = (() => certificate) as TLSSocket["getPeerCertificate"];
}
