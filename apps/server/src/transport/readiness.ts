import { SessiondError, type SessionStore } from "@sessiond/core";
import { HealthImplementation } from "grpc-health-check";
import type { Logger } from "pino";
import { SERVICES } from "../services/services.js";

/** The whole server (`""`), and each service. */
const HEALTH_NAMES = ["", ...SERVICES.map(({ typeName }) => typeName)];
const CHECK_INTERVAL_MS = 1_000;

/** Tells load balancers whether the store can serve: `/readyz` and gRPC health. */
export class Readiness {
  readonly #store: SessionStore;
  readonly #logger: Logger;
  #state: "starting" | "ready" | "store unavailable" | "stopping" = "starting";
  /** What the store cannot do although it serves, or why it does not serve, for the operator. */
  #trouble: string | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** The gRPC health service. */
  readonly health = new HealthImplementation(
    Object.fromEntries(HEALTH_NAMES.map((name) => [name, "NOT_SERVING"])),
  );

  constructor(store: SessionStore, logger: Logger) {
    this.#store = store;
    this.#logger = logger;
  }

  /** Whether calls can be expected to succeed. */
  get isReady(): boolean {
    return this.#state === "ready";
  }

  /** The state, for people. */
  describe(): string {
    if (this.#trouble === undefined) return this.#state;
    if (this.isReady) return `ready, but ${this.#trouble}`;
    return this.#state === "store unavailable" ? this.#trouble : this.#state;
  }

  /** Checks the store now and every second, until `stop`. Resolves after the first check. */
  async start(): Promise<void> {
    await this.#check();
    if (this.#state === "stopping") return;
    this.#timer = setTimeout(() => this.start(), CHECK_INTERVAL_MS);
  }

  /** Reports that the server is stopping, so that load balancers send no new calls. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#enter("stopping");
  }

  async #check(): Promise<void> {
    try {
      const warning = await this.#store.check();
      this.#enter("ready");
      // What a server cannot do now the other servers cannot do either, so it stays ready.
      if (warning !== undefined && warning !== this.#trouble) this.#logger.error(warning);
      this.#trouble = warning;
    } catch (error) {
      this.#enter("store unavailable", error);
      this.#trouble = error instanceof SessiondError ? error.message : undefined;
    }
  }

  #enter(state: "ready" | "store unavailable" | "stopping", error?: unknown): void {
    if (state === this.#state || this.#state === "stopping") return;
    this.#state = state;
    const status = this.isReady ? "SERVING" : "NOT_SERVING";
    for (const name of HEALTH_NAMES) this.health.setStatus(name, status);
    if (state === "store unavailable") this.#logger.error(describeError(error), state);
    else this.#logger.info(state);
  }
}

/** For the log. An error without a cause says everything in its message, so it needs no stack. */
function describeError(error: unknown): object {
  const isWhole = error instanceof SessiondError && error.cause === undefined;
  return isWhole ? { error: error.message } : { err: error };
}
