import type { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import { connect } from "node:tls";
import { credentials, makeGenericClientConstructor, type ServiceError } from "@grpc/grpc-js";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { service as healthService } from "grpc-health-check";
import { type Address, formatAddress } from "../../../network/address.js";

/** A program that holds a port has this time to answer. */
const ANSWER_TIMEOUT_MS = 1_500;

/** Who has a port: nobody, a server of sessiond that answers so, or somebody else. */
export type PortHolder =
  | { readonly holder: "nobody" }
  | { readonly holder: "sessiond"; readonly isReady: boolean | undefined }
  | { readonly holder: "other" }
  /** Somebody who speaks TLS, while our own certificate cannot be read. */
  | { readonly holder: "unknown" }
  /** Nobody, and we may not listen there. */
  | { readonly holder: "refused"; readonly code: string };

/** How a port is asked. */
export interface PortProbe {
  readonly address: Address;
  readonly protocol: "grpc" | "http";
  /** Whether a server of this configuration speaks TLS. */
  readonly tls: boolean;
  /** What it presents then. Undefined if the file is damaged. */
  readonly certificate: X509Certificate | undefined;
}

/**
 * Listens on the port for a moment. If a program holds the port already, asks that program what it is.
 * Never rejects.
 */
export async function probePort(probe: PortProbe): Promise<PortHolder> {
  const { address, protocol } = probe;
  const code = await listen(address);
  if (code === undefined) return { holder: "nobody" };
  if (code !== "EADDRINUSE") return { holder: "refused", code };
  const reachable = { ...address, host: reachableHost(address.host) };
  // A server that was started before the settings changed may still speak plaintext.
  const asks = [...(probe.tls ? [presents(probe.certificate)] : []), ASK[protocol]];
  for (const ask of asks) {
    const answer = await ask(reachable).catch(() => undefined);
    if (answer !== undefined) return answer;
  }
  return { holder: "other" };
}

/** The code of the error, if we cannot listen there. */
async function listen({ host, port }: Address): Promise<string | undefined> {
  const server = createServer().listen({ host, port, exclusive: true });
  try {
    await once(server, "listening");
    return undefined;
  } catch (error) {
    return error instanceof Error && "code" in error ? String(error.code) : String(error);
  } finally {
    server.close();
  }
}

/** Where one reaches what listens on all addresses. */
function reachableHost(host: string): string {
  if (host === "0.0.0.0") return "127.0.0.1";
  return host === "::" ? "::1" : host;
}

type Ask = (address: Address) => Promise<PortHolder>;

const ASK: Readonly<Record<PortProbe["protocol"], Ask>> = { grpc: askHealth, http: askReadiness };

async function askReadiness(address: Address): Promise<PortHolder> {
  const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
  const response = await fetch(`http://${formatAddress(address)}/readyz`, { signal });
  const report: unknown = await response.json();
  const isOurs = typeof report === "object" && report !== null && "parts" in report;
  return isOurs ? { holder: "sessiond", isReady: response.ok } : { holder: "other" };
}

/** Another server does not know the name of our service. */
async function askHealth(address: Address): Promise<PortHolder> {
  const Client = makeGenericClientConstructor(healthService, "Health");
  const client = new Client(formatAddress(address), credentials.createInsecure(), {
    // The address is of this machine, whatever proxy the environment names.
    "grpc.enable_http_proxy": 0,
  });
  try {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const deadline = Date.now() + ANSWER_TIMEOUT_MS;
    client["check"]?.(
      { service: SessionService.typeName },
      { deadline },
      (error: ServiceError | null, answer?: { readonly status: string }) =>
        error ? reject(error) : resolve(answer?.status ?? ""),
    );
    return { holder: "sessiond", isReady: (await promise) === "SERVING" };
  } finally {
    client.close();
  }
}

/**
 * With TLS, by its certificate: we may have none that the port asks clients for. A renewed one is for
 * the same names.
 */
function presents(certificate: X509Certificate | undefined): Ask {
  return async ({ host, port }) => {
    // Nothing is sent, so nothing has to be trusted.
    const socket = connect({ host, port, rejectUnauthorized: false });
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => socket.destroy(new Error("no answer")));
    try {
      await once(socket, "secureConnect");
      const presented = socket.getPeerX509Certificate();
      if (certificate === undefined) return { holder: "unknown" };
      return areForSame(presented, certificate)
        ? { holder: "sessiond", isReady: undefined }
        : { holder: "other" };
    } finally {
      socket.on("error", () => {}).destroy();
    }
  };
}

function areForSame(one: X509Certificate | undefined, other: X509Certificate): boolean {
  return one?.subject === other.subject && one?.subjectAltName === other.subjectAltName;
}
