import * as http from "node:http";
import * as https from "node:https";
import type { PortCertificate } from "../tls/port-certificate.js";

/** Makes a server of HTTP, with TLS if there is a certificate. */
export function createHttpServer(
  options: http.ServerOptions,
  certificate: PortCertificate | undefined,
  tls: {
    /** Whether clients need a certificate, if there are authorities for it. */
    readonly asksClients: boolean;
    /** What clients may speak, the best first. */
    readonly protocols: readonly string[];
  },
): http.Server {
  if (certificate === undefined) return http.createServer(options);
  const server = https.createServer({
    ...options,
    ...certificate.options(tls),
    ALPNProtocols: [...tls.protocols],
  });
  certificate.onRenewed((context) => server.setSecureContext(context));
  // By default Node hands a failed handshake to the listener that answers bad HTTP, in plaintext.
  server.removeAllListeners("tlsClientError");
  server.on("tlsClientError", (_error, socket) => socket.destroy());
  return server;
}
