import type { Http2SecureServer, Http2Server } from "node:http2";
import type { TLSSocket } from "node:tls";
import type { Server } from "@grpc/grpc-js";
import type { ServerInternals } from "./incoming-headers.js";

/**
 * Makes `call.getAuthContext()` of a grpc-js server cheap, from the next `bindAsync` on: it asks for
 * the client's certificate at each call, and Node parses it each time, for longer than the rest of
 * a call takes.
 */
export function rememberPeerCertificates(server: Server): void {
  const internals = server as unknown as ServerInternals;
  const setUp = internals._setupHandlers;
  internals._setupHandlers = (http2, ...rest) => {
    // Only a server with TLS has this event.
    (http2 as Http2Server | Http2SecureServer | null)?.on(
      "secureConnection",
      rememberPeerCertificate,
    );
    setUp.call(server, http2, ...rest);
  };
}

/**
 * Makes `getPeerCertificate()` of a socket return the same object each time. The certificate of a
 * connection never changes: TLS 1.3 has no renegotiation, and HTTP/2 forbids it.
 */
export function rememberPeerCertificate(socket: TLSSocket): void {
  const certificate = socket.getPeerCertificate();
  socket.getPeerCertificate = (() => certificate) as TLSSocket["getPeerCertificate"];
}
