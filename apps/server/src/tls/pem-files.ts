import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { createSecureContext } from "node:tls";

/** The content of PEM files by their settings. A file that nobody named is missing. */
export interface PemFiles {
  /** The certificate first, and then those that lead to its authority. */
  readonly cert?: Buffer;
  /** The private key of the first certificate. */
  readonly key?: Buffer;
  /** The authorities that we trust. */
  readonly ca?: Buffer;
}

/** The paths of PEM files. */
export type PemPaths = { readonly [Name in keyof PemFiles]: string };

/** What is wrong with a file, without its content. */
export class PemFault extends Error {
  override readonly name = "PemFault";
  /** The file at fault. */
  readonly file: keyof PemFiles;

  constructor(file: keyof PemFiles, message: string) {
    super(message);
    this.file = file;
  }
}

const BLOCKS = /-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----[^-]*(?:-----END [A-Z0-9 ]+-----)?/g;

/**
 * Checks that the files can be used together at this time, and returns the certificate. Undefined if
 * there is none. Throws a PemFault: of a file that is no PEM or ends in its middle, a certificate
 * that has expired or is not valid yet, an encrypted key or one of another certificate.
 */
export function checkPemFiles(
  { cert, key, ca }: PemFiles,
  nowMs: number,
): X509Certificate | undefined {
  const authorities = ca && parseCertificates("ca", ca);
  if (authorities?.every((authority) => nowMs > authority.validToDate.getTime())) {
    throw new PemFault("ca", `expected an authority that has not expired${described(authorities)}`);
  }
  const [certificate] = (cert && parseCertificates("cert", cert)) ?? [];
  if (certificate !== undefined) checkTime(certificate, nowMs);
  const privateKey = key && parseKey(key);
  if (privateKey !== undefined && !certificate?.checkPrivateKey(privateKey)) {
    throw new PemFault("key", "expected the key of the first certificate, and it is another's");
  }
  try {
    // OpenSSL has more rules, such as about the length of keys.
    createSecureContext({ cert, key, ca });
  } catch (error) {
    throw new PemFault("cert", `OpenSSL refuses it: ${messageOf(error)}`);
  }
  return certificate;
}

function parseCertificates(file: "cert" | "ca", pem: Buffer): readonly X509Certificate[] {
  const blocks = pem.toString("latin1").match(BLOCKS) ?? [];
  if (blocks.length === 0) throw new PemFault(file, "expected certificates in PEM, found none");
  return blocks.map((block, i) => {
    try {
      return new X509Certificate(block);
    } catch {
      const place = `certificate ${i + 1} of ${blocks.length}`;
      throw new PemFault(file, `expected PEM, and ${place} is incomplete or damaged`);
    }
  });
}

function checkTime(certificate: X509Certificate, nowMs: number): void {
  const { validFromDate, validToDate } = certificate;
  const subject = described([certificate]);
  if (nowMs > validToDate.getTime()) {
    throw new PemFault("cert", `it has expired on ${validToDate.toISOString()}${subject}`);
  }
  if (nowMs < validFromDate.getTime()) {
    throw new PemFault("cert", `it is not valid before ${validFromDate.toISOString()}${subject}`);
  }
}

function parseKey(pem: Buffer): KeyObject {
  if (pem.includes("ENCRYPTED")) {
    const remedy = "openssl pkey -in encrypted.pem -out key.pem";
    throw new PemFault("key", `expected a key that is not encrypted; decrypt it with ${remedy}`);
  }
  try {
    return createPrivateKey(pem);
  } catch {
    throw new PemFault("key", "expected a private key in PEM, complete and undamaged");
  }
}

function described(certificates: readonly X509Certificate[]): string {
  return `: ${certificates.map(subjectOf).join("; ")}`;
}

/** Whom a certificate is for, on one line. */
export function subjectOf({ subject, subjectAltName }: X509Certificate): string {
  return subject?.replaceAll("\n", ", ") || subjectAltName || "no subject";
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
