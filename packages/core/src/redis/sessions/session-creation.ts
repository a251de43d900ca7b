import {
  movedInTooLate,
  SessiondError,
  sessionAlreadyExists,
  sessionLimitReached,
  storeUnavailable,
} from "../../errors.js";
import { isGeneratedId } from "../../sessions/session-id.js";
import {
  type Creation,
  EVICTION_REASON,
  type NewSession,
  type OnceOnly,
  type RepeatedCreation,
  type SessionLimit,
} from "../../sessions/session-store.js";
import { toBuffer } from "../connection/script.js";
import type { ChosenIds, OwnClaim } from "./chosen-ids.js";
import type { ClaimedRequests } from "./claimed-requests.js";
import { CREATE, CREATE_ONCE, type CreateReply, type RevokedSession } from "./create-scripts.js";
import type { PartitionScripts } from "./partition-scripts.js";
import type { SessionKeys } from "./session-keys.js";
import { toStoredId } from "./stored-id.js";

/** A creation, and the sessions that it evicted. */
export type CreationWithEvicted = Creation & { readonly evicted: readonly RevokedSession[] };

/** Creates sessions: claims ids that must be unique across partitions, then runs the script. */
export class SessionCreation {
  readonly #scripts: PartitionScripts;
  readonly #keys: SessionKeys;
  readonly #chosenIds: ChosenIds;
  readonly #requests: ClaimedRequests;
  readonly #isReplicated: boolean;

  constructor(options: {
    readonly scripts: PartitionScripts;
    readonly keys: SessionKeys;
    readonly chosenIds: ChosenIds;
    readonly requests: ClaimedRequests;
    readonly isReplicated: boolean;
  }) {
    this.#scripts = options.scripts;
    this.#keys = options.keys;
    this.#chosenIds = options.chosenIds;
    this.#requests = options.requests;
    this.#isReplicated = options.isReplicated;
  }

  /** As `SessionStore.create`. */
  async create(session: NewSession, limit: SessionLimit): Promise<CreationWithEvicted> {
    const claim = await this.#claimId(session);
    const call = this.#call(session, limit, claim);
    const { partition } = session.key;
    const reply = await this.#scripts.run(CREATE, partition, call, this.#isReplicated);
    return this.#created(reply, session, limit, claim);
  }

  /** As `SessionStore.createOnce`. */
  async createOnce(
    request: OnceOnly,
    session: NewSession,
    limit: SessionLimit,
  ): Promise<CreationWithEvicted | RepeatedCreation> {
    const { partition, id } = session.key;
    const requestClaim = await this.#requests.claim(request, partition);
    try {
      // An earlier call with the same request may have taken the id.
      const claim = await this.#claimId(session).catch(orTaken);
      const { keys, args } = this.#call(session, limit, claim);
      const call = {
        keys: { ...keys, request: this.#keys.request(partition, request.key) },
        args: {
          ...args,
          requestRecord: toBuffer(request.record),
          requestKeptForMs: request.keptForMs,
        },
      };
      const reply = await this.#scripts.run(CREATE_ONCE, partition, call, this.#isReplicated);
      if (reply.outcome !== "repeated") return await this.#created(reply, session, limit, claim);
      // Undo this call's claims.
      await this.#requests.keepUntil(request, partition, reply.keptUntilMs);
      if (!reply.isIdInUse) await this.#release(id, claim);
      return reply.creation;
    } catch (error) {
      const isRefused = error instanceof SessiondError && error.reason !== "STORE_UNAVAILABLE";
      if (isRefused) await this.#requests.release(request, requestClaim);
      throw error;
    }
  }

  async #claimId(session: NewSession): Promise<OwnClaim | undefined> {
    return isGeneratedId(session.key.id)
      ? undefined
      : this.#chosenIds.claim(session, this.#isReplicated);
  }

  /** Releases an id that this call has claimed, and no other call before it. */
  async #release(id: string, claim: OwnClaim | "taken" | undefined): Promise<void> {
    if (typeof claim === "object" && claim.isNew) await this.#chosenIds.release(id, claim);
  }

  /** The call of both scripts. With a taken id it can only succeed as a repetition. */
  #call(session: NewSession, limit: SessionLimit, claim: OwnClaim | "taken" | undefined) {
    const { key, userId, idleTimeoutMs, lifetimeMs, movedIn } = session;
    return {
      keys: {
        key: this.#keys.session(key),
        userKey: this.#keys.userSessions(key.partition, userId),
        namespaces: this.#keys.namespaces(key.partition),
      },
      args: {
        namespace: this.#keys.namespace,
        id: toStoredId(key.id),
        userId,
        record: toBuffer(session.record),
        tokenHash: toBuffer(session.tokenHash),
        idleTimeoutMs,
        lifetimeMs,
        maxSessions: limit.maxSessionsPerUser,
        limitPolicy: limit.policy,
        evictionReason: EVICTION_REASON,
        claimLapseTimeMs: claim === "taken" ? 0 : (claim?.lapseTimeMs ?? ""),
        createTimeMs: movedIn?.createTimeMs ?? "",
        authenticateTimeMs: movedIn?.authenticateTimeMs ?? "",
        expireTimeMs: movedIn?.expireTimeMs ?? "",
      },
    };
  }

  async #created(
    reply: CreateReply,
    { key }: NewSession,
    limit: SessionLimit,
    claim: OwnClaim | "taken" | undefined,
  ): Promise<CreationWithEvicted> {
    switch (reply.outcome) {
      case "created": {
        const { session, evicted } = reply;
        return { session, evicted, evictedIds: evicted.map(({ id }) => id) };
      }
      case "exists":
        throw sessionAlreadyExists();
      case "too_old":
      case "ended":
      case "limit":
        await this.#release(key.id, claim);
        if (reply.outcome === "too_old") throw movedInTooLate("create_time");
        if (reply.outcome === "ended") throw movedInTooLate("expire_time");
        throw sessionLimitReached(limit.maxSessionsPerUser);
      case "claim_lapsed":
        if (claim === "taken") throw sessionAlreadyExists();
        throw storeUnavailable("creating the session took too long");
    }
  }
}

function orTaken(error: unknown): "taken" {
  if (error instanceof SessiondError && error.reason === "SESSION_ALREADY_EXISTS") return "taken";
  throw error;
}
