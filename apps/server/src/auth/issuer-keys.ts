import { setTimeout as sleep } from "node:timers/promises";
import { SessiondError } from "@sessiond/core";
import type { KeySet } from "./key-set.js";
import { type KeySource, loadKeySet } from "./key-source.js";

/** Older keys are reloaded, while calls go on with the old ones. */
const REFRESH_AFTER_MS = 60_000;
/**
 * Keys in use are never this old, unless their issuer fails. So calls wait for a reload:
 * the issuer may have withdrawn a key while nobody called.
 */
const WAIT_AFTER_MS = 2 * REFRESH_AFTER_MS;
/** How often an unknown key id may cause a load. Anyone can send one. */
const UNKNOWN_KEY_COOLDOWN_MS = 10_000;
/** The pause after a failed load, so that an issuer in trouble is not asked with every call. */
const RETRY_AFTER_MS = 1_000;

/** Runs a load of an issuer's keys. Answers what `load` answers, and throws what it throws. */
export type AroundKeyLoad = <T>(issuer: string, load: () => Promise<T>) => Promise<T>;

/** The ids of the keys that an issuer publishes since a load, and of those that it withdrew. */
export interface KeyChanges {
  readonly added: readonly string[];
  readonly removed: readonly string[];
}

/** What `IssuerKeys` needs besides the issuer and the source of its keys. */
export interface IssuerKeysOptions {
  readonly now: () => number;
  /** The time limit of one load. */
  readonly timeoutMs: number;
  /**
   * Calls wait for an issuer's answer only this long. Then it counts as failed, so that no later call
   * waits, while the load goes on behind them.
   */
  readonly answerWaitMs: number;
  /** For how long old keys bridge the outage of their issuer. */
  readonly maxAgeMs: number;
  /** Ends loads that are under way, and fails all later ones. */
  readonly closing: AbortSignal;
  readonly onLoadFailure: (issuer: string, cause: unknown) => void;
  /** Called after a load that found other keys than the load before. */
  readonly onKeysChanged?: ((issuer: string, changes: KeyChanges) => void) | undefined;
  /** Runs each load of keys. */
  readonly aroundLoad?: AroundKeyLoad | undefined;
}

/**
 * The keys of one issuer: loaded when first needed, kept fresh while in use.
 * `docs/adr/0013-issuer-keys-are-ours.md` says why jose's remote set does not do this.
 */
export class IssuerKeys {
  readonly #issuer: string;
  readonly #source: KeySource;
  readonly #options: IssuerKeysOptions;
  #keySet: KeySet | undefined;
  /** What the issuer published before its last change. */
  #formerKids: readonly string[] = [];
  #loadTimeMs = Number.NEGATIVE_INFINITY;
  /** Since the last load that succeeded. */
  #failure: { readonly timeMs: number; readonly error: SessiondError } | undefined;
  /** What calls get from the load that is under way. */
  #answer: Promise<KeySet> | undefined;
  #missTimeMs = Number.NEGATIVE_INFINITY;
  /** The load that all calls share which missed a key. */
  #answerToMiss: Promise<KeySet> | undefined;

  constructor(issuer: string, source: KeySource, options: IssuerKeysOptions) {
    this.#issuer = issuer;
    this.#source = source;
    this.#options = options;
  }

  /**
   * Whether `keySet` is the one to trust now. A set stays the same object until its keys
   * change. Does not wait; starts a reload when one is due.
   */
  isCurrent(keySet: KeySet): boolean {
    return keySet === this.#current();
  }

  /** When the keys were last loaded, in ms since the epoch. Undefined if they never were. */
  get loadTimeMs(): number | undefined {
    return this.#keySet && this.#loadTimeMs;
  }

  /** Whether the keys were needed, and no load has ever succeeded. */
  get areMissing(): boolean {
    return this.#keySet === undefined && this.#failure !== undefined;
  }

  /** Whether the issuer publishes a key with this id, or did before its last change. */
  hasPublished(kid: string): boolean {
    return this.#keySet?.kids.includes(kid) || this.#formerKids.includes(kid);
  }

  /** The keys to trust now. Throws ISSUER_UNAVAILABLE if there are none. */
  async get(): Promise<KeySet> {
    // After a failed load, old keys may be the current ones again.
    return (
      this.#current() ?? this.#load().catch((error) => this.#current() ?? Promise.reject(error))
    );
  }

  /**
   * The keys to trust now that `keySet` lacks a token's key: reloaded, unless a missing key caused a
   * load lately. Throws ISSUER_UNAVAILABLE if the load fails: the key may exist.
   */
  async getAfterMiss(keySet: KeySet): Promise<KeySet> {
    const current = this.#current();
    if (current !== undefined && current !== keySet) return current;
    if (this.#answerToMiss === undefined) {
      if (this.#age(this.#missTimeMs) < UNKNOWN_KEY_COOLDOWN_MS) return keySet;
      this.#missTimeMs = this.#options.now();
      this.#answerToMiss = this.#loadOnceMore().finally(() => {
        this.#answerToMiss = undefined;
      });
    }
    return this.#answerToMiss;
  }

  #current(): KeySet | undefined {
    const age = this.#age(this.#loadTimeMs);
    if (age >= this.#options.maxAgeMs) return undefined;
    // A failure is noted and reported where it happens.
    if (age >= REFRESH_AFTER_MS) this.#load().catch(() => undefined);
    return age >= WAIT_AFTER_MS && this.#failure === undefined ? undefined : this.#keySet;
  }

  /** A load that is under way may have asked before the issuer had the key. */
  async #loadOnceMore(): Promise<KeySet> {
    await this.#answer?.catch(() => undefined);
    return this.#load();
  }

  /**
   * One load at a time: calls that come meanwhile share its answer. No call waits for an issuer that
   * failed the last time, so that its outage costs callers no time.
   */
  #load(): Promise<KeySet> {
    if (this.#answer !== undefined) return this.#answer;
    const failure = this.#failure;
    if (failure !== undefined && this.#age(failure.timeMs) < RETRY_AFTER_MS) {
      return Promise.reject(failure.error);
    }
    const loading = this.#loadNow().finally(() => {
      this.#answer = undefined;
    });
    loading.catch(() => undefined);
    this.#answer = failure === undefined ? this.#inTime(loading) : Promise.reject(failure.error);
    this.#answer.catch(() => undefined);
    return this.#answer;
  }

  async #inTime(loading: Promise<KeySet>): Promise<KeySet> {
    const { answerWaitMs } = this.#options;
    const done = new AbortController();
    const overdue = sleep(answerWaitMs, undefined, { signal: done.signal, ref: false });
    try {
      return await Promise.race([
        loading,
        overdue.then(() => {
          throw this.#fail(new Error(`no answer within ${answerWaitMs} ms`));
        }),
      ]);
    } finally {
      done.abort();
    }
  }

  async #loadNow(): Promise<KeySet> {
    const { now, timeoutMs, closing, onLoadFailure, aroundLoad } = this.#options;
    try {
      const signal = AbortSignal.any([AbortSignal.timeout(timeoutMs), closing]);
      const load = () => loadKeySet(this.#issuer, this.#source, signal);
      const loaded = await (aroundLoad === undefined ? load() : aroundLoad(this.#issuer, load));
      const before = this.#keySet;
      const keySet = loaded.fingerprint === before?.fingerprint ? before : loaded;
      this.#keySet = keySet;
      this.#loadTimeMs = now();
      this.#failure = undefined;
      if (before !== undefined && before !== keySet) this.#tellChanges(before, keySet);
      return keySet;
    } catch (cause) {
      onLoadFailure(this.#issuer, cause);
      throw this.#fail(cause);
    }
  }

  #tellChanges({ kids: former }: KeySet, { kids }: KeySet): void {
    this.#formerKids = former;
    this.#options.onKeysChanged?.(this.#issuer, {
      added: kids.filter((kid) => !former.includes(kid)),
      removed: former.filter((kid) => !kids.includes(kid)),
    });
  }

  #fail(cause: unknown): SessiondError {
    const message = `the signing keys of issuer ${this.#issuer} are unavailable`;
    const error = new SessiondError("ISSUER_UNAVAILABLE", message, { cause });
    this.#failure = { timeMs: this.#options.now(), error };
    return error;
  }

  /** After the clock was set back, a time in the future counts as never. */
  #age(timeMs: number): number {
    const age = this.#options.now() - timeMs;
    return age < 0 ? Number.POSITIVE_INFINITY : age;
  }
}
