import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { Http2ServerResponse } from "node:http2";
import type { AddressInfo } from "node:net";
import type { Address } from "../network/address.js";
import type { Metrics } from "../observability/metrics.js";
import { REQUEST_TIMEOUT_MS } from "./limits.js";
import { listenFailure, type Port } from "./port.js";

/** Where metrics are served. */
export const METRICS_PATH = "/metrics";

/** Serves metrics alone, for those who must not see them on the HTTP port. Rejects if it cannot listen. */
export async function startMetricsServer(address: Address, metrics: Metrics): Promise<Port> {
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    if (request.url?.split("?", 1)[0] === METRICS_PATH) {
      void answerScrape(metrics, request.headers.accept, response);
      return;
    }
    response.statusCode = 404;
    response.end(`there is nothing here; expected GET ${METRICS_PATH}\n`);
  });
  server.listen(address.port, address.host);
  await once(server, "listening").catch((cause: Error) => {
    throw listenFailure(address, "--metrics-address", cause);
  });
  const { port } = server.address() as AddressInfo;
  return {
    address: { host: address.host, port },
    // A scrape that is cut is made again.
    stop: async () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Answers a scrape in the format that its `Accept` header prefers. */
export async function answerScrape(
  metrics: Metrics,
  accept: string | undefined,
  response: ServerResponse | Http2ServerResponse,
): Promise<void> {
  try {
    const { contentType, body } = await metrics.expose(accept);
    response.setHeader("content-type", contentType);
    response.end(body);
  } catch {
    // A fault of one metric must not end the server. Prometheus reports the failed scrape.
    response.statusCode = 500;
    response.end();
  }
}
