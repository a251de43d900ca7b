import type { ReportOutput } from "./command.js";
import { terminalWidth } from "./terminal-width.js";

/** How often a line is written if the output is no terminal. */
const LINE_INTERVAL_MS = 5_000;
const BAR_WIDTH = 30;
/** Goes to the start of the line and clears it. */
const REWIND = "\r\x1b[2K";

/**
 * Shows the progress of a long command: as a bar in one line of a terminal, or as
 * a line every five seconds in a log.
 */
export class ProgressReport {
  readonly #output: ReportOutput;
  readonly #now: () => number;
  readonly #startMs: number;
  #lastLineMs: number;
  #isBarShown = false;
  /** An estimate of the whole work. */
  readonly total: number;

  constructor(output: ReportOutput, total: number, now: () => number = () => performance.now()) {
    this.#output = output;
    this.total = total;
    this.#now = now;
    this.#startMs = now();
    this.#lastLineMs = this.#startMs;
  }

  /** Shows the work done so far. It may exceed `total`, an estimate. */
  progress(done: number): void {
    const nowMs = this.#now();
    const width = terminalWidth(this.#output);
    if (width !== undefined) {
      const text = `${barOf(this.#fraction(done))} ${this.#describe(done, nowMs)}`;
      this.#output.write(REWIND + text.slice(0, width - 1));
      this.#isBarShown = true;
    } else if (nowMs - this.#lastLineMs >= LINE_INTERVAL_MS) {
      this.#lastLineMs = nowMs;
      this.say(this.#describe(done, nowMs));
    }
  }

  /** Writes a separate line. */
  say(text: string): void {
    this.end();
    this.#output.write(`sessiond: ${text}\n`);
  }

  /** Ends the line of the bar, if one is shown. */
  end(): void {
    if (!this.#isBarShown) return;
    this.#output.write("\n");
    this.#isBarShown = false;
  }

  #fraction(done: number): number {
    return this.total === 0 ? 1 : Math.min(1, done / this.total);
  }

  #describe(done: number, nowMs: number): string {
    const elapsedS = Math.max(nowMs - this.#startMs, 1) / 1000;
    const percent = Math.floor(this.#fraction(done) * 100);
    return `${percent} %, ${done} of about ${Math.max(done, this.total)}, ${Math.round(done / elapsedS)}/s`;
  }
}

function barOf(fraction: number): string {
  const filled = Math.floor(fraction * BAR_WIDTH);
  return `[${"#".repeat(filled)}${".".repeat(BAR_WIDTH - filled)}]`;
}
