import { type History, type HistoryEntry, saysNothing } from "./history.js";
import { ModelState, transitions } from "./session-model.js";

/** What a check found. */
export type Verdict =
  | {
      readonly kind: "linearizable";
      /** An order that explains all answers. */
      readonly order: readonly HistoryEntry[];
    }
  | {
      /** There is no order of the calls that explains their answers. */
      readonly kind: "violation";
      /** The longest order that explains as many answers as it has. */
      readonly longest: readonly HistoryEntry[];
      /** The state in which that order ends. */
      readonly state: ModelState;
      /** The calls one of which would have to come next, and none can. */
      readonly stuck: readonly HistoryEntry[];
    }
  /** The search was given up. */
  | { readonly kind: "undecided" };

/** How many configurations are looked at before a search is given up. */
const MAX_CONFIGURATIONS = 400_000;

/**
 * Whether a history is linearizable: whether its calls, each taking effect at one
 * moment between invocation and answer, can stand in an order in which the model
 * gives the same answers. The search is Wing and Gong's ("Testing and verifying
 * concurrent objects", 1993) with Lowe's memory of the configurations that led
 * nowhere ("Testing for linearizability", 2017).
 *
 * A call that fits and changes nothing is taken at once: taking it later could not
 * help, since whatever comes after it finds the same state. But a report of a reuse
 * answers alike when it changes something, so it may be needed for that later.
 */
export function checkLinearizability(
  history: History,
  maxConfigurations = MAX_CONFIGURATIONS,
): Verdict {
  return new Search(history, maxConfigurations).run();
}

class Search {
  readonly #history: History;
  readonly #maxConfigurations: number;
  /** In the order of invocation. */
  readonly #entries: readonly HistoryEntry[];
  readonly #taken: boolean[];
  readonly #order: HistoryEntry[] = [];
  readonly #seen = new Set<string>();
  #knownLeft: number;
  #longest: {
    readonly order: readonly HistoryEntry[];
    /** How many answers it leaves unexplained. */
    readonly left: number;
    readonly state: ModelState;
    readonly stuck: readonly HistoryEntry[];
  } = { order: [], left: Number.POSITIVE_INFINITY, state: ModelState.EMPTY, stuck: [] };

  constructor(history: History, maxConfigurations: number) {
    this.#history = history;
    this.#maxConfigurations = maxConfigurations;
    this.#entries = history.entries
      .filter((entry) => !saysNothing(entry))
      .sort((a, b) => a.invokedMs - b.invokedMs);
    this.#taken = this.#entries.map(() => false);
    this.#knownLeft = this.#entries.filter(({ result }) => result !== undefined).length;
  }

  run(): Verdict {
    if (this.#explains(ModelState.EMPTY)) return { kind: "linearizable", order: this.#order };
    if (this.#seen.size >= this.#maxConfigurations) return { kind: "undecided" };
    const { order, state, stuck } = this.#longest;
    return { kind: "violation", longest: order, state, stuck };
  }

  /** Whether what is left can follow in this state; `#order` is then complete. */
  #explains(state: ModelState): boolean {
    if (this.#knownLeft === 0) return true;
    if (this.#seen.size >= this.#maxConfigurations) return false;
    const configuration = this.#configuration(state);
    if (this.#seen.has(configuration)) return false;
    this.#seen.add(configuration);

    const next = this.#next();
    const steps: { readonly i: number; readonly state: ModelState }[] = [];
    for (const { i, entry } of next) {
      for (const step of transitions(state, entry.operation, this.#history.births)) {
        if (entry.result !== undefined && entry.result !== step.result) continue;
        const changesNothing = step.state === state;
        if (changesNothing && entry.result === undefined) continue;
        const tellsItsEffect = entry.operation.kind !== "reportReuse";
        if (changesNothing && tellsItsEffect) return this.#take(i, state);
        steps.push({ i, state: step.state });
      }
    }
    this.#remember(state, next);
    // Answered calls first: that a call of unknown outcome took effect is the rarer explanation.
    const isUnknown = (i: number) => Number(this.#entries[i]?.result === undefined);
    steps.sort((a, b) => isUnknown(a.i) - isUnknown(b.i));
    return steps.some((step) => this.#take(step.i, step.state));
  }

  #take(i: number, state: ModelState): boolean {
    const entry = this.#entries[i] as HistoryEntry;
    const known = entry.result === undefined ? 0 : 1;
    this.#taken[i] = true;
    this.#knownLeft -= known;
    this.#order.push(entry);
    if (this.#explains(state)) return true;
    this.#order.pop();
    this.#knownLeft += known;
    this.#taken[i] = false;
    return false;
  }

  /** The calls that may come next: those made before any other that is left was answered. */
  #next(): { readonly i: number; readonly entry: HistoryEntry }[] {
    const left = this.#entries
      .map((entry, i) => ({ i, entry }))
      .filter(({ i }) => this.#taken[i] === false);
    const firstAnswerMs = Math.min(...left.map(({ entry }) => entry.respondedMs));
    return left.filter(({ entry }) => entry.invokedMs <= firstAnswerMs);
  }

  #configuration(state: ModelState): string {
    return `${this.#taken.map(Number).join("")}\n${state.key}`;
  }

  #remember(state: ModelState, next: readonly { readonly entry: HistoryEntry }[]): void {
    const left = this.#knownLeft;
    if (left >= this.#longest.left) return;
    const stuck = next.map(({ entry }) => entry).filter(({ result }) => result !== undefined);
    this.#longest = { order: [...this.#order], left, state, stuck };
  }
}
