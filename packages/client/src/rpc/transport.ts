import * as http from "node:http";
import * as https from "node:https";
import type { ConnectionOptions as SecureClientOptions } from "node:tls";
import type { Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { createGrpcJsTransport } from "@sessiond/connect-grpc-js";
import type { ServerAddress } from "../options.js";
import type { TlsOptions } from "../tls-options.js";
import { parseSessions } from "./session-bytes.js";

/** A transport and how to close it. */
export interface Connection {
  readonly transport: Transport;

  /** Closes all sockets at once, along with the calls on them. */
  close(): void;
}

/**
 * An HTTP/2 connection that was silent for this long gets a PING: while a call waits for its
 * answer, and before the first call after a pause.
 */
const PING_INTERVAL_MS = 2000;

/**
 * A connection whose PING gets no answer for this long is replaced. Together with the interval
 * this is less than the default timeout of a call (5 s), so that a read on a connection that died
 * silently is still answered over a new one.
 */
const PING_TIMEOUT_MS = 2000;

/** A server that accepts a connection and then sends nothing is given up after this long. */
const HANDSHAKE_TIMEOUT_MS = 2000;

/** The most sockets of an HTTP/1.1 client. Each carries one call at a time. */
const MAX_HTTP1_CONNECTIONS = 64;

/**
 * The largest answer that we accept. A batch of 1000 sessions whose 16 KiB of data are all small
 * numbers has about 100 MB. Connect's own limit is 4 GiB, that of gRPC 4 MiB.
 */
const MAX_ANSWER_BYTES = 128 * 1024 * 1024;

/** Prepares a connection. The first call opens it; a call after a loss opens it again. */
export function openConnection({ baseUrls, protocol, tls }: ServerAddress): Connection {
  return protocol === "grpc" ? openGrpc(baseUrls, tls) : openConnect(baseUrls[0], tls);
}

/** The options of `node:tls`. */
function nodeTls({ ca, cert, key, serverName }: TlsOptions = {}): SecureClientOptions {
  const options = { ca, cert, key, servername: serverName };
  // Node takes an undefined name for an empty one.
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

function openGrpc(baseUrl: readonly string[], tls: TlsOptions | undefined): Connection {
  const transport = createGrpcJsTransport({
    baseUrl,
    tls,
    parse: parseSessions,
    readMaxBytes: MAX_ANSWER_BYTES,
    pingIntervalMs: PING_INTERVAL_MS,
    pingTimeoutMs: PING_TIMEOUT_MS,
    handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
  });
  return { transport, close: () => transport.close() };
}

function openConnect(baseUrl: string, tls: TlsOptions | undefined): Connection {
  const { Agent } = new URL(baseUrl).protocol === "https:" ? https : http;
  const agent = new Agent({ keepAlive: true, maxSockets: MAX_HTTP1_CONNECTIONS, ...nodeTls(tls) });
  return {
    transport: createConnectTransport({
      baseUrl,
      httpVersion: "1.1",
      nodeOptions: { agent },
      // Smaller than JSON, and faster to read.
      useBinaryFormat: true,
      readMaxBytes: MAX_ANSWER_BYTES,
      // Most answers are below 1 KiB and stay inside one network. To compress them would cost the
      // server more than it saves.
      acceptCompression: [],
    }),
    close: () => agent.destroy(),
  };
}
