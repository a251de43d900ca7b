import { performance } from "node:perf_hooks";
import { SessiondError } from "../../errors.js";
import { isProof } from "../../sessions/replaced-tokens.js";
import { generateSessionId, partitionOfUser } from "../../sessions/session-id.js";
import type {
  SessionKey,
  SessionStore,
  StoredFacts,
  StoredSession,
} from "../../sessions/session-store.js";
import { storedSession } from "../contract/sessions/fixtures.js";
import { type History, type HistoryEntry, saysNothing } from "./history.js";
import { answers, type Birth, type Operation, type SeenSession } from "./session-model.js";

/** What of a store is called while a history is recorded. */
export type RecordedStore = Pick<
  SessionStore,
  | "create"
  | "createOnce"
  | "get"
  | "getMany"
  | "touch"
  | "replaceRecord"
  | "reseal"
  | "rotateToken"
  | "rotateTokenOnce"
  | "reportReuse"
  | "revoke"
  | "revokeUser"
  | "list"
  | "count"
  | "check"
>;

/** A call that looks at all sessions of the user in turn. */
type ReadAll =
  | { readonly kind: "getMany"; readonly showRevoked: false }
  | { readonly kind: "list"; readonly showRevoked: boolean };

/** A call to record. */
export type RecordedCall = Operation | ReadAll;

/** Longer than any run, because the model knows no deadlines. */
const IDLE_TIMEOUT_MS = 12 * 3_600_000;
const LIFETIME_MS = 24 * 3_600_000;
/** A grace, if there is one. */
const GRACE_MS = LIFETIME_MS;
/** How long repetitions of a request are recognised; the history is over long before. */
const REQUEST_KEPT_FOR_MS = 600_000;
/** More sessions than a user gets in one history. */
const MAX_LISTED = 1_000;
const HASH_BYTES = 32;

/** What a store answered: the operations that it answers, with the answer to each. */
type Answers = readonly (readonly [operation: Operation, result: string])[];

/**
 * A user of its own, whose calls are recorded with times and answers. Records and
 * token hashes are labels as bytes, so that a history shows what was stored.
 */
export class RecordedUser {
  readonly userId: string;
  /** The last that was seen of each session, by label. Others may have changed it since. */
  readonly lastSeen = new Map<string, SeenSession>();
  /** The requests that were made, in order. */
  readonly requests: string[] = [];
  /** The tokens that anybody tried to give a session, by its label. */
  readonly tokens = new Map<string, string[]>();
  readonly #partition: string;
  readonly #entries: HistoryEntry[] = [];
  readonly #births = new Map<string, Birth>();
  readonly #ids = new Map<string, string>();
  readonly #labels = new Map<string, string>();
  #labelsMade = 0;
  #unknownChanges = 0;

  constructor(userId: string) {
    this.userId = userId;
    this.#partition = partitionOfUser(userId);
  }

  /** A label that no other value of this user has. */
  newLabel(prefix: string): string {
    this.#labelsMade++;
    return `${prefix}${this.#labelsMade}`;
  }

  /** A label for a new session, under an id that the store's caller chose or a generated one. */
  newSession(isChosen: boolean): string {
    const label = this.newLabel(isChosen ? "chosen" : "s");
    const id = isChosen ? `${this.userId}:${label}` : generateSessionId(this.#partition);
    this.#ids.set(label, id);
    this.#labels.set(id, label);
    return label;
  }

  /** The sessions that anybody tried to create. */
  get sessions(): readonly string[] {
    return [...this.#ids.keys()];
  }

  /** How many calls have been recorded. */
  get length(): number {
    return this.#entries.length;
  }

  /** How many changes have an unknown outcome; each doubles, at worst, what a check looks at. */
  get unknownChanges(): number {
    return this.#unknownChanges;
  }

  /** All that was recorded. */
  history(): History {
    return { userId: this.userId, entries: this.#entries, births: this.#births };
  }

  /** Makes a call and records it. Answers whether the store did answer. */
  async call(client: string, store: RecordedStore, call: RecordedCall): Promise<boolean> {
    const invokedMs = performance.now();
    const answered = await this.#answers(store, call);
    const respondedMs = performance.now();
    if (answered !== undefined) {
      for (const [operation, result] of answered) {
        this.#entries.push({ client, operation, invokedMs, respondedMs, result });
      }
      return true;
    }
    if (call.kind === "list" || call.kind === "getMany") return false;
    const unknown = { respondedMs: Number.POSITIVE_INFINITY, result: undefined };
    const entry = { client, operation: call, invokedMs, ...unknown };
    if (saysNothing(entry)) return false;
    this.#entries.push(entry);
    this.#unknownChanges++;
    return false;
  }

  /** The answers to a call; undefined where the store could not answer. */
  async #answers(store: RecordedStore, call: RecordedCall): Promise<Answers | undefined> {
    try {
      if (call.kind === "list" || call.kind === "getMany") return await this.#readAll(store, call);
      return [[call, await this.#perform(store, call)]];
    } catch (error) {
      if (error instanceof SessiondError) {
        if (error.reason === "STORE_UNAVAILABLE") return undefined;
        if (!("id" in call)) throw error;
        return [[call, error.reason]];
      }
      // Nothing in the model fails like this, so that the check shows it.
      const operation: Operation = "id" in call ? call : { kind: "count" };
      return [[operation, `failed: ${String(error)}`]];
    }
  }

  async #perform(store: RecordedStore, operation: Operation): Promise<string> {
    switch (operation.kind) {
      case "create":
        return this.#create(store, operation);
      case "read":
        return this.#sessionOrNothing(operation.id, await store.get(this.#key(operation.id)));
      case "count":
        return `${await store.count(this.userId)}`;
      case "verify": {
        const { id, tokenHash } = operation;
        const session = await store.get(this.#key(id));
        const isProven = session && isProof(session, toHash(tokenHash), session.readTimeMs);
        return this.#sessionOrNothing(id, isProven ? session : undefined);
      }
      case "touch": {
        const tokenHash = operation.tokenHash && toHash(operation.tokenHash);
        const touched = await store.touch(this.#key(operation.id), tokenHash || undefined);
        return this.#changed(operation.id, touched);
      }
      case "replaceRecord": {
        const { id, version, record, endsGrace } = operation;
        const key = this.#key(id);
        const bytes = toRecord(record);
        const replaced = await store.replaceRecord(key, version, bytes, undefined, endsGrace);
        if (typeof replaced === "string") return answers.mismatch;
        return this.#changed(id, replaced, record);
      }
      case "reseal": {
        const { id, record, resealed } = operation;
        return `${await store.reseal(this.#key(id), toRecord(record), toRecord(resealed))}`;
      }
      case "rotateToken":
        return this.#rotate(store, operation);
      case "reportReuse":
        await store.reportReuse(this.#key(operation.id), toHash(operation.tokenHash), false);
        return answers.reported;
      case "revoke": {
        const { id, reason, tokenHash, by } = operation;
        const hash = tokenHash === undefined ? undefined : toHash(tokenHash);
        const userId = by && (by === "owner" ? this.userId : `${this.userId}, a stranger`);
        return `${await store.revoke(this.#key(id), reason, hash, userId)}`;
      }
      case "revokeUser": {
        const exceptId = operation.exceptId && this.#ids.get(operation.exceptId);
        const revoked = await store.revokeUser(this.userId, operation.reason, exceptId);
        return revoked === undefined ? answers.nothing : `${revoked}`;
      }
    }
  }

  async #rotate(
    store: RecordedStore,
    operation: Operation & { readonly kind: "rotateToken" },
  ): Promise<string> {
    const { id, tokenHash, newTokenHash, hasGrace, request, record = "" } = operation;
    this.#noteToken(id, newTokenHash);
    const key = this.#key(id);
    const rotation = [
      key,
      toHash(tokenHash),
      toHash(newTokenHash),
      hasGrace ? GRACE_MS : 0,
    ] as const;
    if (request === undefined) {
      return this.#sessionOrNothing(id, await store.rotateToken(...rotation));
    }
    const once = {
      key: request,
      record: toRecord(record),
      keptForMs: REQUEST_KEPT_FOR_MS,
    };
    const rotated = await store.rotateTokenOnce(once, ...rotation);
    if (rotated === undefined || !("repeated" in rotated))
      return this.#sessionOrNothing(id, rotated);
    const { repeated, session } = rotated;
    return answers.repeated(toLabel(repeated), this.#sessionOrNothing(id, session), []);
  }

  #noteToken(id: string, token: string): void {
    this.tokens.set(id, [...(this.tokens.get(id) ?? []), token]);
  }

  async #create(
    store: RecordedStore,
    operation: Operation & { readonly kind: "create" },
  ): Promise<string> {
    const { id, tokenHash, record, policy, request } = operation;
    this.#noteToken(id, tokenHash);
    const limit = { maxSessionsPerUser: operation.maxSessions, policy };
    const session = {
      key: this.#key(id),
      userId: this.userId,
      record: toRecord(record),
      tokenHash: toHash(tokenHash),
      idleTimeoutMs: IDLE_TIMEOUT_MS,
      lifetimeMs: LIFETIME_MS,
    };
    if (request === undefined) {
      const created = await store.create(session, limit);
      const seen = this.#see(id, storedSession(created.session, session));
      return answers.created(seen, this.#labelsOf(created.evictedIds));
    }
    const once = {
      key: `${this.userId}:${request}`,
      record: session.record,
      keptForMs: REQUEST_KEPT_FOR_MS,
    };
    const created = await store.createOnce(once, session, limit);
    const evictedIds = this.#labelsOf(created.evictedIds);
    if (!("repeated" in created)) {
      return answers.created(this.#see(id, storedSession(created.session, session)), evictedIds);
    }
    const { repeated, session: now } = created;
    const seen = now ? this.#see(this.#labelOf(now.id), now) : answers.nothing;
    return answers.repeated(toLabel(repeated), seen, evictedIds);
  }

  /**
   * Looks at all sessions. A store reads them one after the other, so each is a read
   * of its own, somewhere within the call.
   */
  async #readAll(store: RecordedStore, { kind, showRevoked }: ReadAll): Promise<Answers> {
    const labels = this.sessions;
    const found = new Map<string, StoredSession | undefined>(
      labels.map((label) => [label, undefined]),
    );
    if (kind === "getMany") {
      const sessions = await store.getMany(labels.map((label) => this.#key(label)));
      for (const [i, label] of labels.entries()) found.set(label, sessions[i]);
    } else {
      const { sessions } = await store.list({
        userId: this.userId,
        showExpired: true,
        showRevoked,
        order: "asc",
        limit: MAX_LISTED,
      });
      for (const session of sessions) found.set(this.#labelOf(session.id), session);
    }
    return [...found].map(([id, session]) => [
      { kind: "read", id, by: kind, showRevoked },
      this.#sessionOrNothing(id, session),
    ]);
  }

  #key(label: string): SessionKey {
    return { partition: this.#partition, id: this.#ids.get(label) ?? label };
  }

  #labelOf(id: string): string {
    return this.#labels.get(id) ?? id;
  }

  #labelsOf(ids: readonly string[]): string[] {
    return ids.map((id) => this.#labelOf(id));
  }

  #sessionOrNothing(label: string, session: StoredSession | undefined): string {
    return session ? this.#see(label, session) : answers.nothing;
  }

  /** Remembers a session and writes it down, with whatever it should not be. */
  #see(label: string, stored: StoredSession): string {
    const session = {
      version: stored.version,
      tokenHash: toLabel(stored.tokenHash),
      record: toLabel(stored.record),
      ...(stored.revokeTimeMs !== undefined && { revokeReason: stored.revokeReason ?? "" }),
    };
    if ((this.lastSeen.get(label)?.version ?? 0) <= session.version) {
      this.lastSeen.set(label, session);
    }
    return this.#withFaults(label, stored, answers.session(label, session));
  }

  /** As `#see`, of an answer that has the facts only. */
  #changed(label: string, stored: StoredFacts | undefined, record?: string): string {
    if (stored === undefined) return answers.nothing;
    const { version } = stored;
    const seen = this.lastSeen.get(label);
    if (seen !== undefined && seen.version <= version) {
      this.lastSeen.set(label, { ...seen, version, ...(record !== undefined && { record }) });
    }
    return this.#withFaults(label, stored, answers.version(label, version));
  }

  #withFaults(label: string, stored: StoredFacts, text: string): string {
    const birth = this.#births.get(label) ?? { createTimeMs: stored.createTimeMs, id: stored.id };
    this.#births.set(label, birth);
    if (stored.id !== this.#ids.get(label)) return `${text}, under the id ${stored.id}`;
    if (stored.userId !== this.userId) return `${text}, of the user ${stored.userId}`;
    if (stored.createTimeMs !== birth.createTimeMs) return `${text}, created at another time`;
    return text;
  }
}

function toRecord(label: string): Uint8Array {
  return Buffer.from(label);
}

function toHash(label: string): Uint8Array {
  const hash = Buffer.alloc(HASH_BYTES);
  hash.write(label);
  return hash;
}

function toLabel(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString().replace(/\0+$/, "");
}
