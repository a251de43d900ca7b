import { type History, type HistoryEntry, printEntries } from "./history.js";
import { checkLinearizability } from "./linearizability.js";

/** How many configurations a check looks at while a history is made smaller. */
const MAX_CONFIGURATIONS = 40_000;

/**
 * The least part of a history that still cannot be explained. Only steps are taken
 * under which a history that can be explained stays so; what is left is therefore
 * a fault of the whole, not one made by the cuts. Answers the history itself where
 * it can be explained.
 */
export function minimalHistory(history: History): History {
  if (!isViolation(history)) return history;
  const started = shortestStart(history);
  const needed = withoutIneffective(started.entries.reduce(forget, started));
  // What stays is shown whole: an answer more makes nothing explainable.
  const isNeeded = new Set(needed.entries.map(({ operation }) => operation));
  const entries = started.entries.filter(({ operation }) => isNeeded.has(operation));
  return { ...history, entries };
}

/** What a person needs to see why a history cannot be explained. */
export function explainViolation(history: History): string {
  const minimal = minimalHistory(history);
  const verdict = checkLinearizability(minimal, MAX_CONFIGURATIONS);
  const lines = [
    `no order explains these ${minimal.entries.length} of ${history.entries.length} calls`,
    `on the sessions of ${history.userId} (times in ms):`,
    indent(printEntries(minimal.entries)),
  ];
  if (verdict.kind === "violation") {
    const { longest, state, stuck } = verdict;
    lines.push(
      longest.length === 0 ? "Nothing can come first." : "The order that explains most of them is",
      indent(
        longest
          .map((entry) =>
            printEntries([entry])
              .trim()
              .replace(/^\S+ – \S+ +/, ""),
          )
          .join("\n"),
      ),
      `which leads to ${state.key === "" ? "no session at all" : state.key.replaceAll("\n", "; ")}.`,
      "There, none of these fits:",
      indent(printEntries(stuck)),
    );
  }
  return lines.filter((line) => line !== "").join("\n");
}

function indent(text: string): string {
  return text.replaceAll(/^(?=.)/gm, "  ");
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

/** Leaves an answer out, where the violation can be seen without it. */
function forget(history: History, entry: HistoryEntry): History {
  if (entry.result === undefined) return history;
  const entries = history.entries.map((one) => (one === entry ? withoutAnswer(one) : one));
  const weaker = { ...history, entries };
  return isViolation(weaker) ? weaker : history;
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
