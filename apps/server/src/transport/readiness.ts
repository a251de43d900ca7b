import type { SessionStore } from "@sessiond/core";
import { HealthImplementation } from "grpc-health-check";
import type { Logger } from "pino";
import { SERVICES } from "../services/services.js";

/** What health is told of: the server as a whole, and each service. */
const HEALTH_NAMES = ["", ...SERVICES.map(({ typeName }) => typeName)];
/** How often the store is asked whether it can serve. */
const CHECK_INTERVAL_MS = 1_000;

/** Follows whether the store can serve, for load balancers: `/readyz` and gRPC health. */
export class Readiness {
  readonly #store: SessionStore;
  readonly #logger: Logger;
  #state: "starting" | "ready" | "store unavailable" | "stopping" = "starting";
  #timer: NodeJS.Timeout | undefined;

  /** The gRPC health service: of the server as a whole (`""`) and of each service. */
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

  /** The state in a word or two. */
  describe(): string {
    return this.#state;
  }

  /** Checks the store now and from then on, until `stop`. */
  async start(): Promise<void> {
    await this.#check();
    this.#scheduleCheck();
  }

  /** Says from now on that the server is stopping, so that no new calls come. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#enter("stopping");
  }

  #scheduleCheck(): void {
    if (this.#state === "stopping") return;
    this.#timer = setTimeout(async () => {
      await this.#check();
      this.#scheduleCheck();
    }, CHECK_INTERVAL_MS);
  }

  async #check(): Promise<void> {
    try {
      await this.#store.check();
      this.#enter("ready");
    } catch (error) {
      this.#enter("store unavailable", error);
    }
  }

  #enter(state: "ready" | "store unavailable" | "stopping", error?: unknown): void {
    if (state === this.#state || this.#state === "stopping") return;
    this.#state = state;
    const status = this.isReady ? "SERVING" : "NOT_SERVING";
    for (const name of HEALTH_NAMES) this.health.setStatus(name, status);
    if (state === "store unavailable") this.#logger.error({ err: error }, state);
    else this.#logger.info(state);
  }
}
