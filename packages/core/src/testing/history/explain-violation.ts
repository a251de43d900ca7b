import { type History, type HistoryEntry, printEntries } from "./history.js";
import { checkLinearizability } from "./linearizability.js";

/** How many configurations a check looks at while a history is made shorter. */
const MAX_CONFIGURATIONS = 20_000;

/** What a person needs to see why a history cannot be explained. */
export function explainViolation(history: History): string {
  const start = shortestStart(history);
  const verdict = checkLinearizability(start);
  const lines = [
    `no order explains these ${start.entries.length} of ${history.entries.length} calls`,
    `on the sessions of ${history.userId} (times in ms):`,
    indent(printEntries(start.entries.toSorted((a, b) => a.invokedMs - b.invokedMs))),
  ];
  if (verdict.kind === "violation") {
    const startMs = Math.min(...start.entries.map(({ invokedMs }) => invokedMs));
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

/** The history up to the first moment from which on nothing explains it. */
function shortestStart(history: History): History {
  const moments = history.entries
    .map(({ respondedMs }) => respondedMs)
    .filter(Number.isFinite)
    .sort((a, b) => a - b);
  let [low, high] = [0, moments.length - 1];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const start = until(history, moments[middle] ?? 0);
    if (checkLinearizability(start, MAX_CONFIGURATIONS).kind === "violation") high = middle;
    else low = middle + 1;
  }
  return until(history, moments[high] ?? 0);
}

/** The history as it was known at a moment: an answer that came later is unknown. */
function until(history: History, momentMs: number): History {
  const entries = history.entries
    .filter(({ invokedMs }) => invokedMs <= momentMs)
    .map((entry): HistoryEntry => {
      if (entry.respondedMs <= momentMs) return entry;
      return { ...entry, respondedMs: Number.POSITIVE_INFINITY, result: undefined };
    });
  return { ...history, entries };
}
