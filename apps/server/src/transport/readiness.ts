import { SessiondError, type SessionStore } from "@sessiond/core";
import { HealthImplementation, type ServingStatus } from "grpc-health-check";
import type { Logger } from "pino";
import type { AccessTokenVerifier } from "../auth/access-token.js";
import { SERVICES } from "../services/services.js";

/** The whole server (`""`), and each service. */
const HEALTH_NAMES = ["", ...SERVICES.map(({ typeName }) => typeName)];
const CHECK_INTERVAL_MS = 1_000;

/** What a server needs to serve, as `/readyz` tells of it. */
export interface Part {
  readonly ready: boolean;
  /** Since when it is ready, or is not. */
  readonly since: string;
  /** Why it is not, for people. */
  readonly reason?: string;
}

/** What `/readyz` answers. */
export interface ReadinessReport {
  readonly status: "starting" | "ready" | "not ready" | "stopping";
  readonly parts: {
    readonly store?: Part;
    /** Not ready if they were needed and never fetched, of each issuer. */
    readonly issuer_keys?: Part & { readonly never_fetched: readonly string[] };
    /** Only while it is in use: there is no room for more sessions. The server stays ready. */
    readonly reserve?: Part;
  };
}

/**
 * Tells load balancers whether the server can serve: `/readyz` and gRPC health. It cannot without
 * its store, nor if it can fetch no issuer's keys: then it can tell no caller from a stranger, while
 * other servers may have had the keys for long. An issuer that fails later, or one of several, is no
 * reason to take the server away from the others. Keys are fetched when they are first needed.
 */
export class Readiness {
  readonly #store: Pick<SessionStore, "check">;
  readonly #verifier: Pick<AccessTokenVerifier, "retryMissingKeys" | "keyLoadTimesMs">;
  readonly #logger: Logger;
  #parts: ReadinessReport["parts"] = {};
  #isStopping = false;
  #timer: NodeJS.Timeout | undefined;
  #told: ServingStatus = "NOT_SERVING";

  /** The gRPC health service. */
  readonly health = new HealthImplementation(
    Object.fromEntries(HEALTH_NAMES.map((name) => [name, "NOT_SERVING"])),
  );

  constructor(
    store: Pick<SessionStore, "check">,
    verifier: Pick<AccessTokenVerifier, "retryMissingKeys" | "keyLoadTimesMs">,
    logger: Logger,
  ) {
    this.#store = store;
    this.#verifier = verifier;
    this.#logger = logger;
  }

  /** Whether calls can be expected to succeed. */
  get isReady(): boolean {
    return this.describe().status === "ready";
  }

  /** Whether the server was told to stop. */
  get isStopping(): boolean {
    return this.#isStopping;
  }

  /** Which part is ready or not, and since when. */
  describe(): ReadinessReport {
    const { store, issuer_keys: keys } = this.#parts;
    const isReady = Boolean(store?.ready && keys?.ready);
    const now = store && keys ? (isReady ? "ready" : "not ready") : "starting";
    return { status: this.#isStopping ? "stopping" : now, parts: this.#parts };
  }

  /** Checks all parts now and every second, until `stop`. Resolves after the first check. */
  async start(): Promise<void> {
    await this.#check();
    if (this.#isStopping) return;
    this.#timer = setTimeout(() => this.start(), CHECK_INTERVAL_MS);
  }

  /** Reports that the server is stopping, so that load balancers send no new calls. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#isStopping = true;
    this.#tellHealth();
  }

  async #check(): Promise<void> {
    const before = this.describe();
    try {
      const warning = await this.#store.check();
      this.#set("store", true);
      // What a server cannot do now the other servers cannot do either, so it stays ready.
      if (warning !== undefined && warning !== before.parts.reserve?.reason) {
        this.#logger.error(warning);
      }
      if (warning === undefined) this.#forget("reserve");
      else this.#set("reserve", false, warning);
    } catch (error) {
      const reason = error instanceof SessiondError ? error.message : undefined;
      // The start tells of the first check in its own line.
      if (before.parts.store?.ready && !this.#isStopping) {
        this.#logger.error(describeError(error), "store unavailable");
      }
      this.#set("store", false, reason);
    }
    this.#checkKeys();
    this.#tellHealth();
    const { status } = this.describe();
    if (status === "ready" && before.status === "not ready") this.#logger.info("ready");
  }

  #checkKeys(): void {
    const missing = this.#verifier.retryMissingKeys();
    const isReady = missing.length < this.#verifier.keyLoadTimesMs().size;
    const reason = isReady ? undefined : "no issuer's keys could be fetched, so no caller is known";
    this.#set("issuer_keys", isReady, reason, { never_fetched: missing });
  }

  #set(name: keyof ReadinessReport["parts"], ready: boolean, reason?: string, more = {}): void {
    const before = this.#parts[name];
    const since = before?.ready === ready ? before.since : new Date().toISOString();
    const part = { ready, since, ...(reason !== undefined && { reason }), ...more };
    this.#parts = { ...this.#parts, [name]: part };
  }

  #forget(name: "reserve"): void {
    const { [name]: _, ...others } = this.#parts;
    this.#parts = others;
  }

  #tellHealth(): void {
    const status = this.isReady ? "SERVING" : "NOT_SERVING";
    // grpc-health-check would tell watchers again what they know.
    if (status === this.#told) return;
    this.#told = status;
    for (const name of HEALTH_NAMES) this.health.setStatus(name, status);
  }
}

/** For the log. An error without a cause says everything in its message, so it needs no stack. */
function describeError(error: unknown): object {
  const isWhole = error instanceof SessiondError && error.cause === undefined;
  return isWhole ? { error: error.message } : { err: error };
}
