import type { LimitPolicy } from "../../sessions/session-store.js";
import type { RecordedCall, RecordedUser } from "./recorded-user.js";
import type { SeededRandom } from "./seeded-random.js";

/** What users do: calls that get in each other's way, with arguments that mostly fit. */
export interface Workload {
  readonly maxSessions: number;
  readonly policy: LimitPolicy;
}

/** How often each call is made, in relation to the others. */
const WEIGHTS = {
  create: 12,
  createOnce: 8,
  get: 10,
  verify: 12,
  list: 4,
  getMany: 4,
  count: 4,
  touch: 8,
  replaceRecord: 12,
  reseal: 4,
  rotateToken: 12,
  reportReuse: 4,
  revoke: 10,
  revokeUser: 2,
} as const;

type CallKind = keyof typeof WEIGHTS;

/** How often a call brings the version or the token that was last seen, and not an older one. */
const UP_TO_DATE = 0.85;

/** The next call on a user. */
export function nextCall(
  random: SeededRandom,
  user: RecordedUser,
  workload: Workload,
): RecordedCall {
  const id = random.pick(user.sessions.slice(-4));
  const kind = id === undefined ? "create" : pickKind(random);
  if (id === undefined || kind === "create" || kind === "createOnce") {
    return creation(random, user, workload, kind === "createOnce");
  }
  const seen = user.lastSeen.get(id);
  switch (kind) {
    case "get":
      return { kind: "read", id, by: "get", showRevoked: false };
    case "list":
      return { kind, showRevoked: random.chance(0.5) };
    case "getMany":
      return { kind, showRevoked: false };
    case "count":
      return { kind };
    case "verify":
      return { kind, id, tokenHash: tokenOf(random, user, id) };
    case "touch":
      return { kind, id, ...(random.chance(0.7) && { tokenHash: tokenOf(random, user, id) }) };
    case "replaceRecord": {
      const older = random.chance(UP_TO_DATE) ? 0 : 1;
      const version = (seen?.version ?? 1) - older;
      return { kind, id, version, record: user.newLabel("r"), endsGrace: random.chance(0.2) };
    }
    case "reseal":
      return { kind, id, record: seen?.record ?? "r0", resealed: user.newLabel("r") };
    case "rotateToken": {
      const once = random.chance(0.5) && {
        request: requestOf(random, user),
        record: user.newLabel("r"),
      };
      const tokenHash = tokenOf(random, user, id);
      const newTokenHash = user.newLabel("t");
      return { kind, id, tokenHash, newTokenHash, hasGrace: random.chance(0.6), ...once };
    }
    case "reportReuse":
      return { kind, id, tokenHash: random.pick(user.tokens.get(id) ?? []) ?? "t0" };
    case "revoke": {
      const byToken = random.chance(0.3) && { tokenHash: tokenOf(random, user, id) };
      const by = random.pick([undefined, undefined, "owner", "stranger"] as const);
      return { kind, id, reason: user.newLabel("logout"), ...byToken, ...(by && { by }) };
    }
    case "revokeUser": {
      const except = random.chance(0.5) && { exceptId: id };
      return { kind, reason: user.newLabel("all out"), ...except };
    }
  }
}

function pickKind(random: SeededRandom): CallKind {
  const kinds = Object.keys(WEIGHTS) as CallKind[];
  let rest = random.next() * kinds.reduce((sum, kind) => sum + WEIGHTS[kind], 0);
  for (const kind of kinds) {
    rest -= WEIGHTS[kind];
    if (rest < 0) return kind;
  }
  return "get";
}

/** A new session, now and then under an id or by a request that was there before. */
function creation(
  random: SeededRandom,
  user: RecordedUser,
  workload: Workload,
  isOnce: boolean,
): RecordedCall {
  const taken = random.chance(0.2) ? random.pick(user.sessions) : undefined;
  return {
    kind: "create",
    id: taken ?? user.newSession(random.chance(0.3)),
    tokenHash: user.newLabel("t"),
    record: user.newLabel("r"),
    ...workload,
    ...(isOnce && { request: requestOf(random, user) }),
  };
}

function requestOf(random: SeededRandom, user: RecordedUser): string {
  const repeated = random.chance(0.5) ? user.requests.at(-1) : undefined;
  if (repeated !== undefined) return repeated;
  const request = user.newLabel("request");
  user.requests.push(request);
  return request;
}

function tokenOf(random: SeededRandom, user: RecordedUser, id: string): string {
  const seen = user.lastSeen.get(id)?.tokenHash;
  const isUpToDate = seen && random.chance(UP_TO_DATE);
  return (isUpToDate ? seen : random.pick(user.tokens.get(id) ?? [])) ?? "t0";
}
