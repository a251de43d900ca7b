import { performance } from "node:perf_hooks";
import { type History, type HistoryEntry, printEntries } from "./history.js";
import { checkLinearizability } from "./linearizability.js";
import { historyOfSession } from "./one-session.js";
import { answers } from "./session-model.js";

/** How many configurations a check looks at while a history is made smaller. */
const MAX_CONFIGURATIONS = 20_000;
/** After this, what is left is shown as it is. */
const MAX_TIME_MS = 5_000;

/**
 * The least part of a history that still cannot be explained: of one session, if
 * that will do. Only steps are taken under which a history that can be explained
 * stays so; what is left is therefore a fault of the whole, not one made by the
 * cuts. Answers the history itself where it can be explained.
 */
export function minimalHistory(history: History): History {
  const deadlineMs = performance.now() + MAX_TIME_MS;
  const found = [...sessionsOf(history)]
    .map((id) => historyOfSession(history, id))
    .find(isViolation);
  if (found === undefined && !isViolation(history)) return history;

  let least = shortestStart(found ?? history);
  const { entries } = least;
  // From the end, because what comes last is most often what cannot be explained.
  for (const entry of entries.toReversed()) {
    if (performance.now() < deadlineMs) least = forget(least, entry);
  }
  // What stays is shown whole: an answer more makes nothing explainable.
  const isNeeded = new Set(withoutIneffective(least).entries.map(({ operation }) => operation));
  return { ...least, entries: entries.filter(({ operation }) => isNeeded.has(operation)) };
}

/** What a person needs to see why a history cannot be explained. */
export function explainViolation(history: History): string {
  const minimal = minimalHistory(history);
  const lines = [
    `no order explains these ${minimal.entries.length} of ${history.entries.length} calls`,
    `on the sessions of ${history.userId} (times in ms):`,
    indent(printEntries(minimal.entries.toSorted((a, b) => a.invokedMs - b.invokedMs))),
  ];
  const verdict = checkLinearizability(minimal);
  if (verdict.kind === "violation") {
    const startMs = Math.min(...minimal.entries.map(({ invokedMs }) => invokedMs));
    const { longest, state, stuck } = verdict;
    lines.push(
      longest.length === 0 ? "Nothing can come first." : "The order that explains most of them:",
      indent(printEntries(longest, startMs)),
      `leads to ${state.key === "" ? "no session at all" : state.key.replaceAll("\n", "; ")}.`,
      "There, none of these fits:",
      indent(printEntries(stuck, startMs)),
    );
  }
  return lines.filter((line) => line !== "").join("\n");
}

function indent(text: string): string {
  return text.replaceAll(/^(?=.)/gm, "  ");
}

function sessionsOf({ entries }: History): Set<string> {
  return new Set(entries.flatMap(({ operation }) => ("id" in operation ? [operation.id] : [])));
}

function isViolation(history: History): boolean {
  return checkLinearizability(history, MAX_CONFIGURATIONS).kind === "violation";
}

/** The history up to the first moment at which it could not be explained any more. */
function shortestStart(history: History): History {
  const moments = history.entries
    .map(({ respondedMs }) => respondedMs)
    .filter(Number.isFinite)
    .sort((a, b) => a - b);
  let [low, high] = [0, moments.length - 1];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (isViolation(until(history, moments[middle] ?? 0))) high = middle;
    else low = middle + 1;
  }
  return until(history, moments[high] ?? 0);
}

/** The history as one knew it at a moment: what was not answered then is unknown. */
function until(history: History, momentMs: number): History {
  const entries = history.entries
    .filter(({ invokedMs }) => invokedMs <= momentMs)
    .map((entry) => (entry.respondedMs <= momentMs ? entry : withoutAnswer(entry)));
  return { ...history, entries };
}

function withoutAnswer(entry: HistoryEntry): HistoryEntry {
  return { ...entry, respondedMs: Number.POSITIVE_INFINITY, result: undefined };
}

/** Leaves out a call that changed nothing, or else its answer, if the violation shows without it. */
function forget(history: History, entry: HistoryEntry): History {
  if (entry.result === undefined) return history;
  const entries = history.entries.flatMap((one) => {
    if (one !== entry) return one;
    return changedNothing(entry) ? [] : withoutAnswer(entry);
  });
  const weaker = { ...history, entries };
  return isViolation(weaker) ? weaker : history;
}

/** Whether a call, if it answered rightly, left everything as it was. */
function changedNothing({ operation: { kind }, result = "" }: HistoryEntry): boolean {
  if (kind === "read" || kind === "count" || kind === "touch") return true;
  const { nothing, mismatch, exists, limit } = answers;
  return [nothing, mismatch, exists, limit, "false", "0"].includes(result);
}

/** Leaves out the calls of unknown outcome that change nothing in any order. */
function withoutIneffective(history: History): History {
  const verdict = checkLinearizability(history, MAX_CONFIGURATIONS);
  if (verdict.kind !== "violation") return history;
  const entries = history.entries.filter(
    (entry) => entry.result !== undefined || verdict.effective.has(entry),
  );
  return { ...history, entries };
}
