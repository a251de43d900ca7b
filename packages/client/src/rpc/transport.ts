import * as http from "node:http";
import * as https from "node:https";
import type { Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import type { ServerAddress } from "../options.js";

/** A way to the server, and how to give it up. */
export interface Connection {
  readonly transport: Transport;

  /** Closes all connections at once, along with the calls on them. */
  close(): void;
}

/**
 * An HTTP/2 connection that was silent for this long is probed with a PING: while
 * a call waits for its answer, and before the first call after a pause.
 */
const PING_INTERVAL_MS = 2000;

/**
 * A connection whose PING is unanswered for this long is replaced. Together with
 * the interval this stays below the default timeout of a call (5 s), so that a
 * read on a connection that died silently is still answered over a new one.
 */
const PING_TIMEOUT_MS = 2000;

/** The most connections that are held with HTTP/1.1, which carries one call on each at a time. */
const MAX_HTTP1_CONNECTIONS = 64;

/**
 * The largest answer accepted. A batch of 1000 sessions whose 16 KiB of data are
 * all small numbers comes to about 100 MB; connect's own limit is 4 GiB.
 */
const MAX_ANSWER_BYTES = 128 * 1024 * 1024;

const COMMON = {
  // Field mask paths are carried as they are; JSON would rewrite them.
  useBinaryFormat: true,
  readMaxBytes: MAX_ANSWER_BYTES,
  // Most answers are below 1 KiB and travel inside one network: compressing them
  // would cost the server more than it saves.
  acceptCompression: [],
};

/** Prepares a connection. It is made by the first call, and again whenever it was lost. */
export function openConnection({ baseUrl, protocol }: ServerAddress): Connection {
  return protocol === "grpc" ? openGrpc(baseUrl) : openConnect(baseUrl);
}

function openGrpc(baseUrl: URL): Connection {
  const sessionManager = new Http2SessionManager(baseUrl, {
    pingIntervalMs: PING_INTERVAL_MS,
    pingTimeoutMs: PING_TIMEOUT_MS,
  });
  return {
    transport: createGrpcTransport({ ...COMMON, baseUrl: baseUrl.href, sessionManager }),
    close: () => sessionManager.abort(),
  };
}

function openConnect(baseUrl: URL): Connection {
  const { Agent } = baseUrl.protocol === "https:" ? https : http;
  const agent = new Agent({ keepAlive: true, maxSockets: MAX_HTTP1_CONNECTIONS });
  return {
    transport: createConnectTransport({
      ...COMMON,
      baseUrl: baseUrl.href,
      httpVersion: "1.1",
      nodeOptions: { agent },
    }),
    close: () => agent.destroy(),
  };
}
