import type { Births, Operation } from "./session-model.js";

/** A call on a store, and what became of it. */
export interface HistoryEntry {
  /** Who made the call: "server 1, client 3". */
  readonly client: string;
  readonly operation: Operation;
  /** When, by a monotonic clock, the call was about to be made. */
  readonly invokedMs: number;
  /** When its answer was there; infinite where the outcome is unknown. */
  readonly respondedMs: number;
  /**
   * The answer, written as `answers` does; undefined where it is unknown: the call
   * may take effect at any time after it was made, or never.
   */
  readonly result: string | undefined;
}

/** All calls that concern one user. */
export interface History {
  readonly userId: string;
  readonly entries: readonly HistoryEntry[];
  readonly births: Births;
}

const CHANGES_NOTHING: ReadonlySet<Operation["kind"]> = new Set([
  "read",
  "count",
  "verify",
  "touch",
]);

/** Whether an entry says nothing: a call that changes nothing, and of which no answer came. */
export function saysNothing({ operation: { kind }, result }: HistoryEntry): boolean {
  return result === undefined && CHANGES_NOTHING.has(kind);
}

/** Calls as lines to read, in their order, with times from `startMs`, the first by default. */
export function printEntries(
  entries: readonly HistoryEntry[],
  startMs = Math.min(...entries.map(({ invokedMs }) => invokedMs)),
): string {
  const at = (ms: number) => (ms === Number.POSITIVE_INFINITY ? "…" : (ms - startMs).toFixed(2));
  return entries
    .map(({ client, operation, invokedMs, respondedMs, result }) => {
      const times = `${at(invokedMs).padStart(9)} – ${at(respondedMs).padEnd(9)}`;
      return `${times} ${client}  ${printOperation(operation)} → ${result ?? "unknown"}`;
    })
    .join("\n");
}

function printOperation(operation: Operation): string {
  switch (operation.kind) {
    case "create": {
      const { id, record, tokenHash, request, maxSessions, policy } = operation;
      const limit = Number.isFinite(maxSessions) ? `, at most ${maxSessions} or ${policy}` : "";
      const what = `${id} ${record} ${tokenHash}${limit}`;
      return request === undefined ? `create(${what})` : `createOnce(${request}: ${what})`;
    }
    case "read":
      return `${operation.by}(${operation.id}${operation.showRevoked ? ", ended too" : ""})`;
    default: {
      const { kind, ...args } = operation;
      return `${kind}(${Object.values(args).join(", ")})`;
    }
  }
}
