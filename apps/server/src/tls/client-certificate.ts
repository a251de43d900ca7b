import { X509Certificate } from "node:crypto";
import { createContextKey } from "@connectrpc/connect";

/** Whose certificate a connection has, if the ports ask for one. */
export interface ClientCertificate {
  /** Such as `CN=shop, O=Example`. Missing if it is empty, as with SPIFFE. */
  readonly subject?: string;
  /** Such as `DNS:shop.internal, URI:spiffe://example/shop`. Missing if there is none. */
  readonly san?: string;
}

/** The client certificate of the call in hand; undefined if the ports ask for none. */
export const clientCertificateKey = createContextKey<ClientCertificate | undefined>(undefined, {
  description: "the certificate of the connection",
});

/** A bound for the log: an authority may put anything into a name. In characters. */
const MAX_NAMES_LENGTH = 512;

/** As `TLSSocket.getPeerCertificate` returns it. */
interface PeerCertificate {
  readonly raw?: Buffer;
}

/** The end of a connection, as far as we ask it. `node:http2` passes everything on to the socket. */
interface PeerSocket {
  getPeerCertificate?(): PeerCertificate;
}

/** Each certificate is parsed once. */
const described = new WeakMap<PeerCertificate, ClientCertificate>();

/** The names in the certificate of a request's connection. Undefined without TLS. */
export function clientCertificateOf(request: {
  readonly socket: unknown;
}): ClientCertificate | undefined {
  const peer = (request.socket as PeerSocket).getPeerCertificate?.();
  if (peer?.raw === undefined) return undefined;
  const known = described.get(peer) ?? parse(peer.raw);
  described.set(peer, known);
  return known;
}

function parse(raw: Buffer): ClientCertificate {
  const { subject, subjectAltName } = new X509Certificate(raw);
  return {
    ...(subject && { subject: cut(subject.replaceAll("\n", ", ")) }),
    ...(subjectAltName && { san: cut(subjectAltName) }),
  };
}

function cut(names: string): string {
  return names.length > MAX_NAMES_LENGTH
    ? `${names.slice(0, MAX_NAMES_LENGTH).toWellFormed()}…`
    : names;
}
