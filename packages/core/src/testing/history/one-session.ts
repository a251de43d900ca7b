import { EVICTION_REASON } from "../../sessions/session-store.js";
import type { History, HistoryEntry } from "./history.js";
import { answers, type Operation } from "./session-model.js";

/** Whether another session had to go, or this one was refused, is not looked at. */
const UNLIMITED = { maxSessions: Number.POSITIVE_INFINITY, policy: "reject" } as const;

/**
 * What a history says of one session alone. Others appear only where their creation
 * may have evicted it, and then as that eviction. A history that can be explained
 * stays so; one that cannot often shows it in a few calls on one session.
 */
export function historyOfSession(history: History, id: string): History {
  const entries = history.entries.flatMap((entry) => aboutSession(entry, id) ?? []);
  return { ...history, entries };
}

function aboutSession(entry: HistoryEntry, id: string): HistoryEntry | undefined {
  const { operation } = entry;
  switch (operation.kind) {
    case "count":
      return undefined;
    case "revokeUser":
      return operation.exceptId === id ? undefined : revocationOfAll(entry, operation.reason, id);
    case "create":
      return operation.id === id ? creation(entry, operation) : eviction(entry, id);
    default:
      return operation.id === id ? entry : undefined;
  }
}

function creation(
  entry: HistoryEntry,
  { request: _, ...operation }: Operation & { readonly kind: "create" },
): HistoryEntry | undefined {
  const result = entry.result?.replace(/, evicted .*/, "");
  const isAboutOthers = result === answers.limit || result?.startsWith("repeated ");
  if (isAboutOthers) return undefined;
  return { ...entry, operation: { ...operation, ...UNLIMITED }, result };
}

/** What another session's creation did to this one. */
function eviction(entry: HistoryEntry, id: string): HistoryEntry | undefined {
  const evicted = /^created .*, evicted (.*)$/.exec(entry.result ?? "")?.[1]?.split(" ");
  const isEvicted = evicted?.includes(id) ?? false;
  // An answer that no creation can give does not tell whom it evicted.
  if (isAnswer(entry.result) && !isEvicted) return undefined;
  const operation = { kind: "revoke", id, reason: EVICTION_REASON } as const;
  if (isEvicted) return { ...entry, operation, result: "true" };
  return { ...entry, operation, result: undefined, respondedMs: Number.POSITIVE_INFINITY };
}

function isAnswer(result: string | undefined): boolean {
  if (result === undefined) return false;
  return /^(created|repeated) /.test(result) || [answers.exists, answers.limit].includes(result);
}

/** Whether this session was among the revoked ones is known only where there were none. */
function revocationOfAll(entry: HistoryEntry, reason: string, id: string): HistoryEntry {
  const operation = { kind: "revoke", id, reason } as const;
  if (entry.result === "0") return { ...entry, operation, result: "false" };
  return { ...entry, operation, respondedMs: Number.POSITIVE_INFINITY, result: undefined };
}
