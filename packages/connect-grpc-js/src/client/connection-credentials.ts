import { isIP, type Socket } from "node:net";
import {
  checkServerIdentity,
  connect,
  createSecureContext,
  type PeerCertificate,
  type SecureContext,
  type TLSSocket,
} from "node:tls";
import { CallCredentials, ChannelCredentials, type experimental } from "@grpc/grpc-js";

/** TLS to a server. All of it in PEM. */
export interface ClientTls {
  /** The authorities that the server's certificate may come from. Default: those of Node.js. */
  readonly ca?: string | Buffer | undefined;

  /** The certificate of this client, and those that lead to its authority. Default: none. */
  readonly cert?: string | Buffer | undefined;

  /** The private key of `cert`, not encrypted. */
  readonly key?: string | Buffer | undefined;

  /** The name that the server's certificate must have. Default: the host in the address. */
  readonly serverName?: string | undefined;
}

/**
 * How a channel makes a connection of a socket.
 *
 * grpc-js' own credentials name the host to TLS, which Node.js 26 refuses if the host is an IP
 * address, and wait for a server's first byte for ever.
 */
export class ConnectionCredentials extends ChannelCredentials {
  readonly #handshakeTimeoutMs: number;
  readonly #secure: ((socket: Socket) => Promise<TLSSocket>) | undefined;

  /**
   * @param handshakeTimeoutMs a server that has not sent a byte for this long after the socket
   * connected is given up
   * @param tls how to secure the connection to a host. Undefined for none
   */
  constructor(
    handshakeTimeoutMs: number,
    tls?: { readonly host: string; readonly options: ClientTls },
  ) {
    super();
    this.#handshakeTimeoutMs = handshakeTimeoutMs;
    if (tls === undefined) return;
    const { ca, cert, key, serverName } = tls.options;
    const context = createSecureContext({ ca, cert, key });
    this.#secure = (socket) => secured(socket, context, serverName ?? tls.host);
  }

  override _isSecure(): boolean {
    return this.#secure !== undefined;
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(
    _target: experimental.GrpcUri,
    _options: object,
    callCredentials = CallCredentials.createEmpty(),
  ): experimental.SecureConnector {
    return {
      connect: async (socket) => {
        this.#giveUpIfSilent(socket);
        if (this.#secure === undefined) return { socket, secure: false };
        return { socket: await this.#secure(socket), secure: true };
      },
      waitForReady: () => Promise.resolve(),
      getCallCredentials: () => callCredentials,
      destroy() {},
    };
  }

  #giveUpIfSilent(socket: Socket): void {
    const timer = setTimeout(() => {
      if (socket.bytesRead === 0) socket.destroy();
    }, this.#handshakeTimeoutMs).unref();
    socket.once("close", () => clearTimeout(timer));
  }
}

/** Rejects with an error that has the code of OpenSSL in its message, as grpc-js keeps only that. */
function secured(socket: Socket, secureContext: SecureContext, name: string): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const tlsSocket = connect({
      socket,
      secureContext,
      ALPNProtocols: ["h2"],
      // RFC 6066, section 3: no IP address is a server name.
      ...(isIP(name) === 0 && { servername: name }),
      checkServerIdentity: (_host: string, certificate: PeerCertificate) =>
        checkServerIdentity(name, certificate),
    });
    const fail = (error: NodeJS.ErrnoException) =>
      reject(new Error(error.code ? `${error.message} (${error.code})` : error.message));
    tlsSocket.on("error", fail);
    tlsSocket.once("close", () => fail(new Error("the server closed the connection")));
    tlsSocket.once("secureConnect", () => {
      if (tlsSocket.alpnProtocol === "h2") resolve(tlsSocket);
      else fail(new Error("no application protocol"));
    });
  });
}
