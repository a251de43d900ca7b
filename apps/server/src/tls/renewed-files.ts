import type { X509Certificate } from "node:crypto";
import { checkPemFiles, PemFault, type PemFiles, type PemPaths } from "./pem-files.js";
import { readPemFiles } from "./read-pem-files.js";

/**
 * How often the files are read. To read three small files costs less than to be told of changes by
 * the system, which loses them when a symbolic link is swapped, as Kubernetes and certbot do.
 */
const CHECK_INTERVAL_MS = 1_000;

/** Files that were right, and their certificate, if they have one. */
export interface CheckedFiles {
  readonly files: PemFiles;
  readonly certificate: X509Certificate | undefined;
}

/** Hears of files that have changed. */
export interface RenewalListener {
  /** The files have changed, and are in use from now on. */
  onRenewed(checked: CheckedFiles): void;
  /** The files have changed and are wrong. The old ones stay in use. Called once for each fault. */
  onRefused(fault: PemFault): void;
}

/** PEM files that somebody renews while the server runs. What is in use was always right. */
export class RenewedFiles {
  readonly #paths: PemPaths;
  readonly #listener: RenewalListener;
  #inUse: CheckedFiles;
  #lastRead: PemFiles | PemFault;
  #lastFault: string | undefined;
  #checking: Promise<void> = Promise.resolve();
  readonly #timer: NodeJS.Timeout;

  private constructor(paths: PemPaths, inUse: CheckedFiles, listener: RenewalListener) {
    this.#paths = paths;
    this.#inUse = inUse;
    this.#lastRead = inUse.files;
    this.#listener = listener;
    this.#timer = setInterval(() => this.#enqueue({ isSettled: false }), CHECK_INTERVAL_MS).unref();
  }

  /** Reads the files for the first time. Rejects with a PemFault. */
  static async open(paths: PemPaths, listener: RenewalListener): Promise<RenewedFiles> {
    const files = await readPemFiles(paths);
    const certificate = checkPemFiles(files, Date.now());
    return new RenewedFiles(paths, { files, certificate }, listener);
  }

  get inUse(): CheckedFiles {
    return this.#inUse;
  }

  /** Reads the files now, and takes them for complete. */
  reload(): Promise<void> {
    return this.#enqueue({ isSettled: true });
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** One after the other, or an old read could replace a new one. */
  #enqueue(options: { readonly isSettled: boolean }): Promise<void> {
    this.#checking = this.#checking.then(() => this.#check(options));
    return this.#checking;
  }

  /**
   * Files are replaced one after the other, and some tools write them in pieces. So we judge only
   * what was the same at two reads, unless somebody says that it is complete.
   */
  async #check({ isSettled }: { readonly isSettled: boolean }): Promise<void> {
    const read = await readPemFiles(this.#paths).catch(faultOf);
    const isSame = areSame(read, this.#lastRead);
    this.#lastRead = read;
    if (areSame(read, this.#inUse.files)) {
      this.#lastFault = undefined;
      return;
    }
    // A certificate may have been refused because it was not valid yet: judge it each time.
    if (isSame || isSettled) this.#judge(read);
  }

  #judge(read: PemFiles | PemFault): void {
    try {
      if (read instanceof PemFault) throw read;
      const certificate = checkPemFiles(read, Date.now());
      this.#inUse = { files: read, certificate };
      this.#lastFault = undefined;
    } catch (error) {
      const fault = faultOf(error);
      if (fault.message !== this.#lastFault) this.#listener.onRefused(fault);
      this.#lastFault = fault.message;
      return;
    }
    this.#listener.onRenewed(this.#inUse);
  }
}

function faultOf(error: unknown): PemFault {
  if (error instanceof PemFault) return error;
  throw error;
}

function areSame(a: PemFiles | PemFault, b: PemFiles | PemFault): boolean {
  if (a instanceof PemFault || b instanceof PemFault) {
    return a instanceof PemFault && b instanceof PemFault && a.message === b.message;
  }
  return (["cert", "key", "ca"] as const).every((name) => {
    const [one, other] = [a[name], b[name]];
    return one === other || (one !== undefined && other !== undefined && one.equals(other));
  });
}
