import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Files in PEM. */
export interface IssuedFiles {
  /** The certificate. */
  readonly cert: string;
  /** Its private key. */
  readonly key: string;
}

/** What a certificate is to say. */
export interface CertificateRequest {
  /** `localhost` by default. */
  readonly name?: string;
  /** As OpenSSL writes them; by default `DNS:localhost,IP:127.0.0.1`. */
  readonly san?: string;
  /** Whether it expires within a second. */
  readonly expires?: boolean;
  /** For how many days it is good otherwise; 2 by default. */
  readonly days?: number;
}

/** An authority for tests, with real certificates by the `openssl` on the PATH. */
export class TestAuthority implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), "sessiond-tls-"));
  /** The file of its own certificate. */
  readonly ca = join(this.directory, "ca.pem");
  readonly #caKey = join(this.directory, "ca-key.pem");
  #issued = 0;

  constructor(name = "Test authority") {
    this.#openssl(
      ...["req", "-x509", ...NEW_KEY, "-keyout", this.#caKey, "-out", this.ca, "-days", "2"],
      ...["-subj", `/CN=${name}`],
    );
  }

  /** Makes a key and its certificate, in new files. */
  issue({
    name = "localhost",
    san = LOCAL_SAN,
    expires = false,
    days = 2,
  }: CertificateRequest = {}): IssuedFiles {
    const [cert, key, request, extensions] = ["cert", "key", "request", "extensions"].map((kind) =>
      join(this.directory, `${this.#issued}-${kind}.pem`),
    ) as [string, string, string, string];
    this.#issued++;
    writeFileSync(extensions, `subjectAltName=${san}\n`);
    this.#openssl(
      "req",
      "-new",
      ...NEW_KEY,
      "-keyout",
      key,
      "-out",
      request,
      "-subj",
      `/CN=${name}`,
    );
    this.#openssl(
      ...["x509", "-req", "-in", request, "-CA", this.ca, "-CAkey", this.#caKey],
      ...[
        "-CAcreateserial",
        "-out",
        cert,
        "-days",
        expires ? "0" : `${days}`,
        "-extfile",
        extensions,
      ],
    );
    return { cert, key };
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true, force: true });
  }

  #openssl(...args: readonly string[]): void {
    execFileSync("openssl", args, { stdio: ["ignore", "ignore", "pipe"] });
  }
}

const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
const LOCAL_SAN = "DNS:localhost,IP:127.0.0.1";
