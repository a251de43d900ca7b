import { randomBytes } from "node:crypto";
import { requestIdReused } from "../../errors.js";
import type { Partition } from "../../sessions/session-id.js";
import type { OnceOnly } from "../../sessions/session-store.js";
import type { RedisCommands } from "../connection/redis-commands.js";
import { CLAIM_REQUEST, RELEASE_CLAIM } from "./claim-scripts.js";
import type { SessionKeys } from "./session-keys.js";

/** How much longer a claim is kept than the request's record, which is written later. */
const CLAIM_SLACK_MS = 10_000;

/**
 * Claims each request for one partition, so that it cannot take effect in several slots. Within the
 * partition, the request's record prevents a second effect.
 */
export class ClaimedRequests {
  readonly #commands: RedisCommands;
  readonly #keys: SessionKeys;

  constructor(commands: RedisCommands, keys: SessionKeys) {
    this.#commands = commands;
    this.#keys = keys;
  }

  /** Throws REQUEST_ID_REUSED if another partition has the request. */
  claim(request: OnceOnly, partition: Partition): Promise<string> {
    return this.#claim(request, partition, "");
  }

  /** Releases a refused request, unless it has been claimed again. */
  async release({ key }: OnceOnly, claim: string): Promise<void> {
    const keys = { ref: this.#keys.requestRef(key) };
    await this.#commands.run(RELEASE_CLAIM, { keys, args: { claim } });
  }

  /** Restores the end of a claim after a repetition has extended it. */
  async keepUntil(request: OnceOnly, partition: Partition, expireTimeMs: number): Promise<void> {
    await this.#claim(request, partition, expireTimeMs + CLAIM_SLACK_MS);
  }

  async #claim(
    { key, keptForMs }: OnceOnly,
    partition: Partition,
    endTimeMs: number | "",
  ): Promise<string> {
    const claim = await this.#commands.run(CLAIM_REQUEST, {
      keys: { ref: this.#keys.requestRef(key) },
      args: {
        partition,
        keptForMs: keptForMs + CLAIM_SLACK_MS,
        nonce: randomBytes(6).toString("base64url"),
        endTimeMs,
      },
    });
    if (claim === undefined) throw requestIdReused();
    return claim;
  }
}
