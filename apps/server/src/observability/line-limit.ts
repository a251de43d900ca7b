/** How many lines a key has in each window. */
export const MAX_LINES = 60;
const WINDOW_MS = 60_000;
/** How many keys have lines of their own. Beyond them, keys share the lines of their `rest`. */
const MAX_KEYS = 1_000;

/** Lines that are counted together. */
export interface LineKey {
  readonly key: string;
  /** Called later if lines were left out, with their number. */
  readonly report: (suppressed: number) => void;
}

/**
 * Bounds lines that anybody can cause: 60 a minute for each key. At the end of a minute in which
 * there were more, says how many were left out.
 */
export class LineLimit {
  readonly #counts = new Map<string, { readonly report: LineKey["report"]; lines: number }>();
  #window: NodeJS.Timeout | undefined;

  /** Whether a line is within the bound. `rest` is one of few keys, for when there are too many. */
  admits(own: LineKey, rest: LineKey): boolean {
    const isOwn = this.#counts.has(own.key) || this.#counts.size < MAX_KEYS;
    const { key, report } = isOwn ? own : rest;
    const count = this.#counts.get(key) ?? { report, lines: 0 };
    this.#counts.set(key, count);
    this.#window ??= setTimeout(() => this.close(), WINDOW_MS).unref();
    return ++count.lines <= MAX_LINES;
  }

  /** Ends the window. */
  close(): void {
    clearTimeout(this.#window);
    this.#window = undefined;
    const counts = [...this.#counts.values()];
    this.#counts.clear();
    for (const { lines, report } of counts) if (lines > MAX_LINES) report(lines - MAX_LINES);
  }
}
