import { isIP } from "node:net";
import type { SessionFilter, SessionQuery } from "@sessiond/client";
import { parseDuration } from "@sessiond/core";
import { didYouMean } from "../../config/closest-name.js";
import { ConfigError } from "../../config/config-error.js";
import type { Environment } from "../../config/environment.js";
import { parseCount } from "../../config/quantity.js";
import { FlagReader } from "../command/flag-reader.js";
import { REMOTE_FLAGS, type RemoteServer, remoteServer } from "../remote/remote-server.js";

/** What `sessiond sessions` is to do. */
export type SessionCall = { readonly server: RemoteServer } & (
  | {
      readonly action: "list";
      readonly query: SessionQuery;
      /** How many sessions to list. Undefined for all of them. */
      readonly limit: number | undefined;
      readonly format: "table" | "json" | "ids";
    }
  | ({ readonly action: "get"; readonly sessionId: string } & OfUser & Json)
  | ({ readonly action: "count" } & OfUser & Json)
  | ({ readonly action: "watch" } & OfUser & Json)
  | ({
      readonly action: "revoke";
      readonly sessionIds: readonly string[];
      readonly reason: string | undefined;
    } & OfUser &
      Json)
  | ({
      readonly action: "revoke-user";
      readonly userIds: readonly string[];
      /** The session to spare, only of a single user. */
      readonly exceptSessionId: string | undefined;
      readonly reason: string | undefined;
      readonly mode: "ask" | "yes" | "dry-run";
    } & Json)
);

/** Undefined for all users. */
interface OfUser {
  readonly userId: string | undefined;
}

interface Json {
  readonly json: boolean;
}

export type SessionAction = SessionCall["action"];
/** The calls of one action. */
export type CallOf<Action extends SessionAction> = Extract<SessionCall, { action: Action }>;
type WithoutServer<Call> = Call extends unknown ? Omit<Call, "server"> : never;

interface ActionSpec {
  /** How many names it takes, and of what. */
  readonly names: { readonly name: string; readonly least: number; readonly most: number };
  readonly flags: readonly string[];
  readonly switches: readonly string[];
  read(names: readonly string[], flags: FlagReader): WithoutServer<SessionCall>;
}

const NO_NAMES = { name: "", least: 0, most: 0 };
const MANY = Number.POSITIVE_INFINITY;
const FILTER_FLAGS = {
  "created-from": "createTimeFrom",
  "created-to": "createTimeTo",
  "active-from": "lastAccessTimeFrom",
  "active-to": "lastAccessTimeTo",
} as const;
const SESSION_ID = /^(?!sst_)[\w.~:@-]{1,128}$/;
const MAX_LIMIT = 999_999_999;
const ORDERS = ["newest-first", "oldest-first"] as const;

const ACTIONS: Readonly<Record<SessionAction, ActionSpec>> = {
  list: {
    names: NO_NAMES,
    flags: ["user", "role", "ip", ...Object.keys(FILTER_FLAGS), "order", "limit"],
    switches: ["show-expired", "show-revoked", "json", "ids"],
    read: (_, flags) => ({
      action: "list",
      query: readQuery(flags),
      limit: flags.read("limit", undefined, (text) =>
        text === undefined ? undefined : parseCount(text, { min: 1, max: MAX_LIMIT }),
      ),
      format: readFormat(flags),
    }),
  },
  get: {
    names: { name: "SESSION_ID", least: 1, most: 1 },
    flags: ["user"],
    switches: ["json"],
    read: (names, flags) => {
      const [sessionId = ""] = readIds(names, flags);
      return { action: "get", sessionId, ...readCommon(flags) };
    },
  },
  count: {
    names: NO_NAMES,
    flags: ["user"],
    switches: ["json"],
    read: (_, flags) => ({ action: "count", ...readCommon(flags) }),
  },
  revoke: {
    names: { name: "SESSION_ID", least: 1, most: MANY },
    flags: ["user", "reason"],
    switches: ["json"],
    read: (names, flags) => ({
      action: "revoke",
      sessionIds: readIds(names, flags),
      reason: flags.values.get("reason"),
      ...readCommon(flags),
    }),
  },
  "revoke-user": {
    names: { name: "USER_ID", least: 1, most: MANY },
    flags: ["except", "reason"],
    switches: ["yes", "dry-run", "json"],
    read: readRevokeUser,
  },
  watch: {
    names: NO_NAMES,
    flags: ["user"],
    switches: ["json"],
    read: (_, flags) => ({ action: "watch", ...readCommon(flags) }),
  },
};

/** Reads the arguments after `sessiond sessions`. Throws a ConfigError with all their faults. */
export function parseSessionCall(args: readonly string[], env: Environment): SessionCall {
  const [action = "", ...rest] = args;
  const spec = Object.hasOwn(ACTIONS, action) ? ACTIONS[action as SessionAction] : undefined;
  if (spec === undefined) {
    const actions = Object.keys(ACTIONS);
    const usage = `expected sessiond sessions ${actions.join("|")}${didYouMean(action, actions)}`;
    throw new ConfigError([`${usage}; see: sessiond help sessions`]);
  }
  const { name, least, most } = spec.names;
  const known = [...spec.flags, ...REMOTE_FLAGS];
  const flags = new FlagReader(rest, known, {
    operands: 1,
    mostNames: most,
    switches: spec.switches,
  });
  if (flags.names.length < least || flags.names.includes("")) {
    flags.faults.push(`the ${name} after ${action} is missing; see: sessiond help sessions`);
  }
  const call = spec.read(flags.names, flags);
  return { ...call, server: remoteServer(flags, env) };
}

function readQuery(flags: FlagReader): SessionQuery {
  const filter: SessionFilter = {};
  const role = readText(flags, "role");
  if (role !== undefined) filter.role = role;
  const ip = flags.read("ip", undefined, (text) =>
    text === undefined ? undefined : parseAddress(text),
  );
  if (ip !== undefined) filter.ip = ip;
  for (const [flag, field] of Object.entries(FILTER_FLAGS)) {
    const time = flags.read(flag, undefined, (text) =>
      text === undefined ? undefined : parseTime(text),
    );
    if (time !== undefined) filter[field] = time;
  }
  const userId = readText(flags, "user");
  return {
    ...(userId !== undefined && { userId }),
    filter,
    showExpired: flags.isOn("show-expired"),
    showRevoked: flags.isOn("show-revoked"),
    order: flags.read("order", ORDERS[0], parseOrder),
  };
}

function readRevokeUser(userIds: readonly string[], flags: FlagReader): WithoutServer<SessionCall> {
  const exceptSessionId = flags.values.get("except");
  if (exceptSessionId !== undefined) {
    readIds([exceptSessionId], flags);
    if (userIds.length > 1) flags.faults.push("--except: expected only one USER_ID with it");
  }
  const [yes, dryRun] = [flags.isOn("yes"), flags.isOn("dry-run")];
  if (yes && dryRun) flags.faults.push("--yes: not with --dry-run");
  return {
    action: "revoke-user",
    userIds: [...new Set(userIds)],
    exceptSessionId,
    reason: flags.values.get("reason"),
    mode: dryRun ? "dry-run" : yes ? "yes" : "ask",
    json: flags.isOn("json"),
  };
}

function readCommon(flags: FlagReader): OfUser & Json {
  return { userId: readText(flags, "user"), json: flags.isOn("json") };
}

/** An empty value is probably an unset variable of a script, and would mean all users. */
function readText(flags: FlagReader, flag: string): string | undefined {
  return flags.read(flag, undefined, (text) => {
    if (text === "") throw new Error("expected a value");
    return text;
  });
}

/** A session token in the place of an id must not come up in an answer, or in a log. */
function readIds(ids: readonly string[], flags: FlagReader): readonly string[] {
  if (!ids.every((id) => SESSION_ID.test(id))) {
    flags.faults.push(
      "SESSION_ID: expected the id of a session, as `sessiond sessions list` shows it, no token",
    );
  }
  return ids;
}

function readFormat(flags: FlagReader): "table" | "json" | "ids" {
  const [json, ids] = [flags.isOn("json"), flags.isOn("ids")];
  if (json && ids) flags.faults.push("--ids: not with --json");
  return json ? "json" : ids ? "ids" : "table";
}

function parseAddress(text: string): string {
  if (isIP(text) === 0) throw new Error("expected an IP address such as 203.0.113.7");
  return text;
}

function parseOrder(text: string = ORDERS[0]): (typeof ORDERS)[number] {
  const order = ORDERS.find((each) => each === text);
  if (order === undefined) throw new Error(`expected ${ORDERS.join(" or ")}`);
  return order;
}

/** `2h` is two hours ago. */
function parseTime(text: string): Date {
  if (/^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/.test(text)) {
    const time = new Date(text);
    if (!Number.isNaN(time.getTime())) return time;
  }
  try {
    return new Date(Date.now() - parseDuration(text));
  } catch {
    throw new Error("expected a time such as 2026-01-31T12:00:00Z, or how long ago: 2h");
  }
}
