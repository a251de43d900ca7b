import type { ConnectRouter, Interceptor } from "@connectrpc/connect";
import type { Edge } from "../edge/edge.js";
import { type Address, formatAddress } from "../network/address.js";
import type { PortCertificate } from "../tls/port-certificate.js";

/** What both ports need. */
export interface PortOptions {
  readonly address: Address;
  readonly routes: (router: ConnectRouter) => void;
  readonly interceptors: readonly Interceptor[];
  readonly shutdownSignal: AbortSignal;
  /** Undefined for plaintext. */
  readonly certificate?: PortCertificate | undefined;
  /** Bounds what clients hold, of both ports together. */
  readonly edge: Edge;
  /** Receives what the system says when it cannot accept a connection. */
  readonly onAcceptError: (error: Error) => void;
}

/** A server that listens on one port. */
export interface Port {
  readonly address: Address;
  /** Lets calls finish, for at most `graceMs`, then cuts them. Idempotent. */
  stop(graceMs: number): Promise<void>;
}

/** The error if we cannot listen on an address. Suggests the flag if the address is in use. */
export function listenFailure(
  address: Address,
  flag: "--grpc-address" | "--http-address" | "--metrics-address",
  cause: Error,
): Error {
  const failure = `cannot listen on ${formatAddress(address)}`;
  // grpc-js gives the system's code in the message only.
  return cause.message.includes("EADDRINUSE")
    ? new Error(`${failure}: the address is in use (EADDRINUSE); ${flag} takes another`)
    : new Error(failure, { cause });
}
