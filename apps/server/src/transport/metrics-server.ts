import { once } from "node:events";
import type { AddressInfo } from "node:net";
import type { Address } from "../network/address.js";
import type { Exposer } from "../observability/metric-reports.js";
import type { PortCertificate } from "../tls/port-certificate.js";
import { createHttpServer } from "./create-http-server.js";
import type { Response } from "./http-messages.js";
import { listenFailure, type Port } from "./port.js";
import { answerProbe } from "./probes.js";
import type { Readiness } from "./readiness.js";

/** Where metrics are served. */
export const METRICS_PATH = "/metrics";

/** How long a client may take to send a request. */
const REQUEST_TIMEOUT_MS = 10_000;

/** What is served on the address of metrics. */
interface MetricsServerOptions {
  readonly address: Address;
  readonly exposition: Exposer;
  readonly readiness: Readiness;
  /** Undefined for plaintext. */
  readonly certificate: PortCertificate | undefined;
}

/**
 * Serves metrics and health apart from the API: for those who must not see metrics on the HTTP port,
 * and for Prometheus and the probes of Kubernetes, which have no client certificate. Rejects if it
 * cannot listen.
 */
export async function startMetricsServer({
  address,
  exposition,
  readiness,
  certificate,
}: MetricsServerOptions): Promise<Port> {
  const nodeOptions = { requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS };
  const tls = { asksClients: false, protocols: ["http/1.1"] };
  const server = createHttpServer(nodeOptions, certificate, tls);
  server.on("request", (request, response) => {
    const path = request.url?.split("?", 1)[0];
    if (path === METRICS_PATH) {
      void answerScrape(exposition, request.headers.accept, response);
      return;
    }
    if (answerProbe(readiness, path, response)) return;
    response.statusCode = 404;
    response.end(`there is nothing here; expected GET ${METRICS_PATH}, /healthz or /readyz\n`);
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
  exposition: Exposer,
  accept: string | undefined,
  response: Response,
): Promise<void> {
  try {
    const { contentType, body } = await exposition.expose(accept);
    response.setHeader("content-type", contentType);
    response.end(body);
  } catch {
    // A fault of one metric must not end the server. Prometheus reports the failed scrape.
    response.statusCode = 500;
    response.end();
  }
}
