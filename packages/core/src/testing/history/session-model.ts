import { MAX_REPLACED_TOKENS } from "../../sessions/replaced-tokens.js";
import { EVICTION_REASON, type LimitPolicy } from "../../sessions/session-store.js";

/**
 * What one user's sessions do one call at a time: the contract of `SessionStore`
 * as a function. A user is the unit, because the limit and `revokeUser` are
 * atomic across a user's sessions, and nothing is across users.
 *
 * Deadlines are left out: whoever records a history sets timeouts that outlast it. So does a grace,
 * if there is one.
 * All values are labels, short and unique, so that histories can be read.
 */
export type Operation =
  | Readonly<{ kind: "create"; id: string; tokenHash: string; record: string } & Creating>
  | Readonly<{ kind: "read"; id: string } & Reading>
  | Readonly<{ kind: "count" }>
  | Readonly<{ kind: "verify"; id: string; tokenHash: string }>
  | Readonly<{ kind: "touch"; id: string; tokenHash?: string }>
  | Readonly<{ kind: "replaceRecord"; id: string; version: number; record: string } & EndingGrace>
  | Readonly<{ kind: "reseal"; id: string; record: string; resealed: string }>
  | Readonly<
      { kind: "rotateToken"; id: string; tokenHash: string; newTokenHash: string } & Rotating
    >
  | Readonly<{ kind: "reportReuse"; id: string; tokenHash: string }>
  | Readonly<{ kind: "revoke"; id: string; reason: string } & Revoking>
  | Readonly<{ kind: "revokeUser"; reason: string; exceptId?: string }>;

interface Creating {
  maxSessions: number;
  policy: LimitPolicy;
  /** With `createOnce`: the key of the request. */
  request?: string;
}

interface EndingGrace {
  endsGrace?: boolean;
}

interface Rotating {
  hasGrace: boolean;
  /** With `rotateTokenOnce`: the key of the request, and the record that a repetition is answered. */
  request?: string;
  record?: string;
}

interface Revoking {
  tokenHash?: string;
  /** For whom: the sessions' user, or another. Anybody if absent. */
  by?: "owner" | "stranger";
}

interface Reading {
  /** One session as `get` sees it, or as one of several that a call looked at in turn. */
  by: "get" | "getMany" | "list";
  /** Whether ended sessions are shown too. */
  showRevoked: boolean;
}

/** What answers show of a session. */
export interface SeenSession {
  readonly version: number;
  /** Empty once it is revoked. */
  readonly tokenHash: string;
  readonly record: string;
  readonly revokeReason?: string;
}

/** A session as the model keeps it. */
interface ModelSession extends SeenSession {
  /** At most `MAX_REPLACED_TOKENS`, oldest first. */
  readonly replaced: readonly ReplacedToken[];
  /** Whether an event told of a reuse. From then on it depends on the time whether another does. */
  readonly isReuseReported: boolean;
  /** The request of the newest rotation, if that had one. */
  readonly rotation?: ModelRotation | undefined;
}

interface ModelRotation {
  readonly request: string;
  readonly record: string;
  readonly replacedHash: string;
}

interface ReplacedToken {
  readonly tokenHash: string;
  readonly isInGrace: boolean;
}

/** What an operation may do: the state after it, and the answer as `answers` writes it. */
export interface Transition {
  readonly state: ModelState;
  readonly result: string;
}

/** When the store says that a session was created; its full id decides between equal times. */
export interface Birth {
  readonly createTimeMs: number;
  readonly id: string;
}

/** The births that anybody saw, by label. */
export type Births = ReadonlyMap<string, Birth>;

/** What the first call of a request did. */
interface ModelRequest {
  readonly id: string;
  readonly record: string;
  readonly evictedIds: readonly string[];
}

/** A user's sessions and requests. Immutable. */
export class ModelState {
  static readonly EMPTY = new ModelState(new Map(), new Map());

  readonly sessions: ReadonlyMap<string, ModelSession>;
  readonly requests: ReadonlyMap<string, ModelRequest>;
  #key: string | undefined;

  constructor(
    sessions: ReadonlyMap<string, ModelSession>,
    requests: ReadonlyMap<string, ModelRequest>,
  ) {
    this.sessions = sessions;
    this.requests = requests;
  }

  /** Equal for equal states. */
  get key(): string {
    this.#key ??= [
      ...[...this.sessions].map(
        ([id, session]) => `${answers.session(id, session)}${tokensOf(session)}`,
      ),
      ...[...this.requests].map(
        ([key, { id, evictedIds }]) => `${key} made ${id}${evictedAsWell(evictedIds)}`,
      ),
    ]
      .sort()
      .join("\n");
    return this.#key;
  }

  active(id: string): ModelSession | undefined {
    const session = this.sessions.get(id);
    return session?.revokeReason === undefined ? session : undefined;
  }

  activeIds(): string[] {
    return [...this.sessions.keys()].filter((id) => this.active(id) !== undefined);
  }

  with(id: string, session: ModelSession): ModelState {
    return new ModelState(new Map(this.sessions).set(id, session), this.requests);
  }

  withRequest(key: string, request: ModelRequest): ModelState {
    return new ModelState(this.sessions, new Map(this.requests).set(key, request));
  }

  /** With those of the sessions revoked that are active. */
  revoked(ids: readonly string[], revokeReason: string): ModelState {
    const sessions = new Map(this.sessions);
    for (const id of ids) {
      const session = this.active(id);
      if (session === undefined) continue;
      sessions.set(id, {
        version: session.version + 1,
        tokenHash: "",
        record: session.record,
        revokeReason,
        replaced: [],
        isReuseReported: false,
      });
    }
    return new ModelState(sessions, this.requests);
  }
}

/**
 * Answers in words. Those of a store and those of the model are compared, and
 * printed, in this form.
 */
export const answers = {
  nothing: "nothing",
  reported: "reported",
  mismatch: "version_mismatch",
  exists: "SESSION_ALREADY_EXISTS",
  limit: "SESSION_LIMIT_REACHED",
  session(id: string, { version, tokenHash, record, revokeReason }: SeenSession): string {
    const facts = `${id} version ${version} ${record}`;
    return revokeReason === undefined ? `${facts} ${tokenHash}` : `${facts} (${revokeReason})`;
  },
  /** Of a change, which answers no content. */
  version(id: string, version: number): string {
    return `${id} version ${version}`;
  },
  created(session: string, evictedIds: readonly string[]): string {
    return `created ${session}${evictedAsWell(evictedIds)}`;
  },
  repeated(record: string, session: string, evictedIds: readonly string[]): string {
    return `repeated ${record}: ${session}${evictedAsWell(evictedIds)}`;
  },
};

function tokensOf({ replaced, isReuseReported, rotation }: ModelSession): string {
  const request = rotation ? ` by ${rotation.request} ${rotation.record}` : "";
  const tokens = replaced.map(({ tokenHash, isInGrace }) => ` ${tokenHash}${isInGrace ? "+" : ""}`);
  return `${tokens.join("")}${isReuseReported ? " reused" : ""}${request}`;
}

function evictedAsWell(ids: readonly string[]): string {
  return ids.length === 0 ? "" : `, evicted ${ids.join(" ")}`;
}

/**
 * What an operation may do in a state. One transition, but for evictions among sessions of which
 * nobody ever saw when they were created, and for reuses after the first.
 */
export function transitions(
  state: ModelState,
  operation: Operation,
  births: Births,
): readonly Transition[] {
  switch (operation.kind) {
    case "create":
      return create(state, operation, births);
    case "count":
      return [{ state, result: `${state.activeIds().length}` }];
    case "revokeUser": {
      const { exceptId } = operation;
      if (exceptId !== undefined && state.active(exceptId) === undefined) {
        return [{ state, result: answers.nothing }];
      }
      const ids = state.activeIds().filter((id) => id !== exceptId);
      return [{ state: state.revoked(ids, operation.reason), result: `${ids.length}` }];
    }
    case "read": {
      const { id, showRevoked } = operation;
      const session = showRevoked ? state.sessions.get(id) : state.active(id);
      return [{ state, result: session ? answers.session(id, session) : answers.nothing }];
    }
    case "reportReuse":
      return reportReuse(state, operation);
    default:
      return [changeOne(state, operation)];
  }
}

type RotateToken = { readonly kind: "rotateToken" };
type ChangeOfOne = Extract<
  Operation,
  { kind: "verify" | "touch" | "replaceRecord" | "reseal" | "rotateToken" | "revoke" }
>;

function changeOne(state: ModelState, operation: ChangeOfOne): Transition {
  const { id } = operation;
  const session = state.active(id);
  const nothing = { state, result: answers.nothing };
  switch (operation.kind) {
    case "verify":
      if (session === undefined || !isProof(operation.tokenHash, session)) return nothing;
      return { state, result: answers.session(id, session) };
    case "touch":
      if (session === undefined || !isProof(operation.tokenHash, session)) return nothing;
      return { state, result: answers.version(id, session.version) };
    case "replaceRecord": {
      if (session === undefined) return nothing;
      if (session.version !== operation.version) return { state, result: answers.mismatch };
      const { replaced: tokens } = session;
      const replaced = changed(state, id, {
        ...session,
        record: operation.record,
        replaced: operation.endsGrace ? withoutGraces(tokens) : tokens,
      });
      return { ...replaced, result: answers.version(id, session.version + 1) };
    }
    case "reseal": {
      const { record, resealed } = operation;
      const any = state.sessions.get(id);
      if (any?.record !== record) return { state, result: "false" };
      return { state: state.with(id, { ...any, record: resealed }), result: "true" };
    }
    case "rotateToken":
      return rotate(state, operation);
    case "revoke":
      if (session === undefined || !isProof(operation.tokenHash, session)) {
        return { state, result: "false" };
      }
      if (operation.by === "stranger") return { state, result: "false" };
      return { state: state.revoked([id], operation.reason), result: "true" };
  }
}

function rotate(
  state: ModelState,
  { id, tokenHash, newTokenHash, hasGrace, request, record = "" }: Operation & RotateToken,
): Transition {
  const session = state.active(id);
  const nothing = { state, result: answers.nothing };
  if (session === undefined) return nothing;
  const known = session.rotation;
  if (request !== undefined && known?.request === request) {
    const isOwner = [known.replacedHash, session.tokenHash].includes(tokenHash);
    const now = answers.session(id, session);
    return isOwner ? { state, result: answers.repeated(known.record, now, []) } : nothing;
  }
  if (session.tokenHash !== tokenHash) return nothing;
  const earlier = hasGrace ? session.replaced : withoutGraces(session.replaced);
  const replaced = [...earlier, { tokenHash, isInGrace: hasGrace }].slice(-MAX_REPLACED_TOKENS);
  const rotation = request === undefined ? undefined : { request, record, replacedHash: tokenHash };
  return changed(state, id, { ...session, tokenHash: newTokenHash, replaced, rotation });
}

function reportReuse(
  state: ModelState,
  { id, tokenHash }: Operation & { readonly kind: "reportReuse" },
): readonly Transition[] {
  const session = state.active(id);
  const unchanged = { state, result: answers.reported };
  const token = session?.replaced.find((one) => one.tokenHash === tokenHash);
  if (session === undefined || token === undefined || token.isInGrace) return [unchanged];
  const { state: next } = changed(state, id, { ...session, isReuseReported: true });
  const reported = { state: next, result: answers.reported };
  return session.isReuseReported ? [unchanged, reported] : [reported];
}

function isProof(tokenHash: string | undefined, session: ModelSession): boolean {
  const isGood = (one: ReplacedToken) => one.isInGrace && one.tokenHash === tokenHash;
  return (
    tokenHash === undefined || tokenHash === session.tokenHash || session.replaced.some(isGood)
  );
}

function withoutGraces(tokens: readonly ReplacedToken[]): readonly ReplacedToken[] {
  return tokens.map(({ tokenHash }) => ({ tokenHash, isInGrace: false }));
}

function changed(state: ModelState, id: string, session: ModelSession): Transition {
  const next = { ...session, version: session.version + 1 };
  return { state: state.with(id, next), result: answers.session(id, next) };
}

function create(
  state: ModelState,
  operation: Operation & { readonly kind: "create" },
  births: Births,
): readonly Transition[] {
  const { id, tokenHash, record, maxSessions, policy, request } = operation;
  const first = request === undefined ? undefined : state.requests.get(request);
  if (first !== undefined) {
    const session = state.sessions.get(first.id);
    const text = session ? answers.session(first.id, session) : answers.nothing;
    return [{ state, result: answers.repeated(first.record, text, first.evictedIds) }];
  }
  if (state.sessions.has(id)) return [{ state, result: answers.exists }];
  const active = state.activeIds();
  const surplus = active.length + 1 - maxSessions;
  if (surplus > 0 && policy === "reject") return [{ state, result: answers.limit }];

  return oldest(active, surplus, births).map((evictedIds) => {
    const session = { version: 1, tokenHash, record, replaced: [], isReuseReported: false };
    const created = state.revoked(evictedIds, EVICTION_REASON).with(id, session);
    const done = { id, record, evictedIds };
    return {
      state: request === undefined ? created : created.withRequest(request, done),
      result: answers.created(answers.session(id, session), evictedIds),
    };
  });
}

/** The `count` oldest of `ids`, oldest first: every choice that what is known of births permits. */
function oldest(ids: readonly string[], count: number, births: Births): readonly string[][] {
  if (count <= 0) return [[]];
  const candidates = ids.filter((id) => !ids.some((other) => isOlder(other, id, births)));
  return candidates.flatMap((first) => {
    const rest = ids.filter((id) => id !== first);
    return oldest(rest, count - 1, births).map((others) => [first, ...others]);
  });
}

function isOlder(a: string, b: string, births: Births): boolean {
  const [birthA, birthB] = [births.get(a), births.get(b)];
  if (a === b || birthA === undefined || birthB === undefined) return false;
  const difference = birthA.createTimeMs - birthB.createTimeMs;
  return difference < 0 || (difference === 0 && birthA.id < birthB.id);
}
