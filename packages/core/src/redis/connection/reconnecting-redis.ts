import { Redis, type RedisOptions } from "ioredis";

/** How long we wait before we connect again where ioredis would not. */
const RECONNECT_DELAY_MS = 100;

/**
 * A connection that ends only when it is disconnected.
 *
 * ioredis gives up for good when an attempt fails before it has a socket: if a sentinel announces
 * a new primary while another is being asked for it, or if a TLS file does not parse.
 */
export class ReconnectingRedis extends Redis<"legacy"> {
  #isWanted = true;

  constructor(options: RedisOptions) {
    super({ ...options, replyMapping: "legacy" });
    this.on("end", () => {
      if (!this.#isWanted) return;
      setTimeout(() => {
        // A failed attempt is reported as an error, and ends once more.
        if (this.#isWanted) this.connect().catch(() => {});
      }, RECONNECT_DELAY_MS);
    });
  }

  override disconnect(reconnect = false): void {
    if (!reconnect) this.#isWanted = false;
    super.disconnect(reconnect);
  }
}
