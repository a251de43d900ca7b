import type { X509Certificate } from "node:crypto";
import type { SecureContextOptions, TlsOptions } from "node:tls";
import type { Logger } from "pino";
import { type PemPaths, subjectOf } from "./pem-files.js";
import { type CheckedFiles, type RenewalListener, RenewedFiles } from "./renewed-files.js";

/** The files that make the ports speak TLS. */
export interface PortPems extends PemPaths {
  readonly cert: string;
  readonly key: string;
}

/** How long a client may take for its handshake. */
const HANDSHAKE_TIMEOUT_MS = 10_000;

/** What a port makes of a new certificate. */
type TakeContext = (context: SecureContextOptions) => void;

/**
 * The certificate of the ports, and the authorities of their clients. When its files change, new
 * connections get the new certificate. Connections that are open go on.
 */
export class PortCertificate implements Disposable {
  readonly #files: RenewedFiles;
  readonly #takers: TakeContext[] = [];

  private constructor(files: RenewedFiles) {
    this.#files = files;
  }

  /** Reads the files. Rejects with a PemFault if one is wrong. Later faults are logged. */
  static async open(paths: PortPems, logger: Logger): Promise<PortCertificate> {
    const listener: RenewalListener = {
      onRenewed: (checked) => {
        for (const take of certificate.#takers) take(contextOf(checked));
        logger.info(describe(checked), "the TLS certificate has been renewed");
      },
      onRefused: (fault) => {
        const file = paths[fault.file];
        const kept = describe(files.inUse);
        logger.error(
          { error: fault.message, file, ...kept },
          "the TLS files have changed and are refused, so the old ones stay in use",
        );
      },
    };
    const files = await RenewedFiles.open(paths, listener);
    const certificate = new PortCertificate(files);
    return certificate;
  }

  /** For a server of `node:tls`, `node:https` or `node:http2`. */
  options({ asksClients }: { readonly asksClients: boolean }): TlsOptions {
    const isAsking = asksClients && this.asksClients;
    return { ...this.context, ...HANDSHAKE, requestCert: isAsking, rejectUnauthorized: isAsking };
  }

  get context(): SecureContextOptions {
    return contextOf(this.#files.inUse);
  }

  /** Whether clients need a certificate. */
  get asksClients(): boolean {
    return this.#files.inUse.files.ca !== undefined;
  }

  get notAfterMs(): number {
    return this.#certificate.validToDate.getTime();
  }

  /** For the log. */
  describe(): object {
    return { ...describe(this.#files.inUse), tls_client_certificates: this.asksClients };
  }

  /** Calls `take` for each certificate after the one in use. */
  onRenewed(take: TakeContext): void {
    this.#takers.push(take);
  }

  /** Reads the files now instead of within a second. */
  reload(): Promise<void> {
    return this.#files.reload();
  }

  [Symbol.dispose](): void {
    this.#files.close();
  }

  get #certificate(): X509Certificate {
    return certificateOf(this.#files.inUse);
  }
}

const HANDSHAKE = { handshakeTimeout: HANDSHAKE_TIMEOUT_MS } as const;

/** TLS 1.0 and 1.1 are forbidden (RFC 8996), also where somebody has allowed them to Node. */
function contextOf({ files }: CheckedFiles): SecureContextOptions {
  return { ...files, minVersion: "TLSv1.2" };
}

function describe(checked: CheckedFiles): object {
  const certificate = certificateOf(checked);
  return {
    tls_certificate: subjectOf(certificate),
    tls_not_after: certificate.validToDate.toISOString(),
    tls_serial_number: certificate.serialNumber,
  };
}

function certificateOf({ certificate }: CheckedFiles): X509Certificate {
  if (certificate === undefined) throw new Error("the ports have no certificate");
  return certificate;
}
