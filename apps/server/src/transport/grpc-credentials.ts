import { ServerCredentials } from "@grpc/grpc-js";
import type { PortCertificate } from "../tls/port-certificate.js";

/** The credentials of the gRPC port. */
export function grpcCredentials(certificate: PortCertificate | undefined): ServerCredentials {
  return certificate ? new RenewedCredentials(certificate) : ServerCredentials.createInsecure();
}

/**
 * The certificate of the ports, in the form that grpc-js asks for. Its own `createSsl` never changes
 * its certificate, and its file watcher takes files that do not belong together.
 */
class RenewedCredentials extends ServerCredentials {
  constructor(certificate: PortCertificate) {
    super(certificate.options({ asksClients: true }), certificate.context);
    certificate.onRenewed((context) => this.updateSecureContextOptions(context));
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}
