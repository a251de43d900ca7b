import { SessiondError } from "@sessiond/core";
import type { KeySet } from "./key-set.js";
import { type KeySource, loadKeySet } from "./key-source.js";

/** Keys older than this are loaded anew, behind the calls that use them meanwhile. */
const REFRESH_AFTER_MS = 60_000;
/**
 * Keys older than this have not been in use lately, or there would be newer ones:
 * a call waits for the new ones, so that a key withdrawn meanwhile is not accepted.
 */
const WAIT_AFTER_MS = 2 * REFRESH_AFTER_MS;
/**
 * Keys that could not be loaded anew for this long are not trusted any more. An
 * issuer that is down for less does not take down who relies on it.
 */
const MAX_AGE_MS = 3_600_000;
/** How often an unknown key id, which anyone can send, may cause a load. */
const UNKNOWN_KEY_COOLDOWN_MS = 10_000;
/** How long after a failed load the next may start. */
const RETRY_AFTER_MS = 1_000;

/** What `IssuerKeys` needs besides the issuer and the source of its keys. */
export interface IssuerKeysOptions {
  readonly now: () => number;
  /** How long one load may take. */
  readonly timeoutMs: number;
  /** Ends loads that are under way. */
  readonly closing: AbortSignal;
  readonly onLoadFailure: (issuer: string, cause: unknown) => void;
}

/**
 * The keys of one issuer, loaded when first needed and kept fresh while in use.
 * jose's own remote set is not used, because it neither bounds what it reads nor
 * says when keys have changed, and asks a failing issuer again with every call.
 */
export class IssuerKeys {
  readonly #issuer: string;
  readonly #source: KeySource;
  readonly #options: IssuerKeysOptions;
  #keySet: KeySet | undefined;
  #loadTimeMs = Number.NEGATIVE_INFINITY;
  #failure: { readonly timeMs: number; readonly error: SessiondError } | undefined;
  #loading: Promise<KeySet> | undefined;

  constructor(issuer: string, source: KeySource, options: IssuerKeysOptions) {
    this.#issuer = issuer;
    this.#source = source;
    this.#options = options;
  }

  /**
   * Whether these are the keys to trust now. One set stays the same object for
   * as long as its keys do. Costs nothing, and has them loaded anew where due.
   */
  isCurrent(keySet: KeySet): boolean {
    return keySet === this.#current();
  }

  /** The keys to trust now. Throws ISSUER_UNAVAILABLE where there are none to be had. */
  async get(): Promise<KeySet> {
    const current = this.#current();
    if (current !== undefined) return current;
    try {
      return await this.#load();
    } catch (error) {
      const fallback = this.#current();
      if (fallback === undefined) throw error;
      return fallback;
    }
  }

  /**
   * The keys to trust now that `keySet` lacked the key of a token: loaded anew,
   * unless they were a moment ago. Throws ISSUER_UNAVAILABLE where that fails,
   * since then nobody knows whether the key exists.
   */
  async getAfterMiss(keySet: KeySet): Promise<KeySet> {
    const current = this.#current();
    if (current !== undefined && current !== keySet) return current;
    return this.#age(this.#loadTimeMs) < UNKNOWN_KEY_COOLDOWN_MS ? keySet : await this.#load();
  }

  #current(): KeySet | undefined {
    const age = this.#age(this.#loadTimeMs);
    if (age >= MAX_AGE_MS) return undefined;
    // A failure has been reported and is kept; the keys at hand serve meanwhile.
    if (age >= REFRESH_AFTER_MS) this.#load().catch(() => undefined);
    return age >= WAIT_AFTER_MS && this.#failure === undefined ? undefined : this.#keySet;
  }

  #load(): Promise<KeySet> {
    if (this.#loading !== undefined) return this.#loading;
    if (this.#failure !== undefined && this.#age(this.#failure.timeMs) < RETRY_AFTER_MS) {
      return Promise.reject(this.#failure.error);
    }
    this.#loading = this.#loadNow().finally(() => {
      this.#loading = undefined;
    });
    return this.#loading;
  }

  async #loadNow(): Promise<KeySet> {
    const { now, timeoutMs, closing, onLoadFailure } = this.#options;
    try {
      const signal = AbortSignal.any([AbortSignal.timeout(timeoutMs), closing]);
      const loaded = await loadKeySet(this.#issuer, this.#source, signal);
      const isSame = loaded.fingerprint === this.#keySet?.fingerprint;
      this.#keySet = isSame ? this.#keySet : loaded;
      this.#loadTimeMs = now();
      this.#failure = undefined;
      return this.#keySet ?? loaded;
    } catch (cause) {
      const message = `the signing keys of issuer ${this.#issuer} are unavailable`;
      const error = new SessiondError("ISSUER_UNAVAILABLE", message, { cause });
      this.#failure = { timeMs: now(), error };
      onLoadFailure(this.#issuer, cause);
      throw error;
    }
  }

  /** How long ago; a time in the future, after the clock was set back, is as good as never. */
  #age(timeMs: number): number {
    const age = this.#options.now() - timeMs;
    return age < 0 ? Number.POSITIVE_INFINITY : age;
  }
}
