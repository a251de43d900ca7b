import { styleText } from "node:util";
import type { Environment } from "../../config/environment.js";
import type { ReportOutput } from "../command/command.js";
import { cut, pad, printable, widthOf } from "./printable.js";

/** The formats of `styleText` that tables use. */
export type Style = "green" | "yellow" | "red" | "dim";

/** A column of a table. */
export interface Column<Row> {
  readonly title: string;
  /** Need not be printable. */
  text(row: Row): string;
  /** The column may be cut to this width to fit the terminal. Default: it is never cut. */
  readonly minWidth?: number;
  /**
   * The column is shown whole or cut to exactly this width. It is cut only if the next columns need
   * the room. For ids: their first characters are enough to recognize one.
   */
  readonly shortWidth?: number;
  /**
   * The column is at least this wide, because later rows may need it. Default: the title and the
   * first rows decide.
   */
  readonly usualWidth?: number;
  style?(row: Row): Style | undefined;
}

/** Where a table is shown. */
export interface TableOptions {
  /** The columns of the terminal. Nothing is cut without a terminal. */
  readonly width: number | undefined;
  readonly colors: boolean;
}

const GAP = "  ";

/**
 * A table whose rows come in pieces. The first piece decides how wide its columns are; what is
 * wider later is cut. The columns at the end are left out if the terminal is too narrow for them.
 */
export class Table<Row> {
  readonly #columns: readonly Column<Row>[];
  readonly #options: TableOptions;
  #widths: readonly number[] | undefined;
  /** Whether a cell of a column with a `shortWidth` was cut. */
  isShortened = false;

  constructor(columns: readonly Column<Row>[], options: TableOptions) {
    this.#columns = columns;
    this.#options = options;
  }

  /** The lines of these rows. The first call puts the titles above them. */
  lines(rows: readonly Row[]): string {
    const cells = rows.map((row) => this.#columns.map((column) => printable(column.text(row))));
    const isFirst = this.#widths === undefined;
    this.#widths ??= layOut(this.#columns, cells, this.#options.width);
    const lines = cells.map((texts, at) => this.#line(texts, rows[at]));
    if (isFirst) lines.unshift(this.#line(this.#columns.map(({ title }) => title)));
    return lines.map((line) => `${line}\n`).join("");
  }

  #line(texts: readonly string[], row?: Row): string {
    const widths = this.#widths ?? [];
    const isCut = this.#options.width !== undefined;
    const cells = widths.map((width, at) => {
      const text = texts[at] ?? "";
      const column = this.#columns[at];
      const shown = isCut ? cut(text, width) : text;
      if (shown !== text && column?.shortWidth !== undefined) this.isShortened = true;
      // Nothing follows the last cell that would have to stand below anything.
      const cell = at === widths.length - 1 ? shown : pad(shown, width);
      const style = row === undefined ? undefined : column?.style?.(row);
      return style === undefined ? cell : styled(cell, style, this.#options.colors);
    });
    return cells.join(GAP).trimEnd();
  }
}

/** Whether the reader of an output is a person who has not refused colors (https://no-color.org). */
export function wantsColors({ isTTY }: ReportOutput, env: Environment): boolean {
  return isTTY === true && !env["NO_COLOR"] && env["TERM"] !== "dumb";
}

/** `node:util` would look at the environment and at stdout by itself. */
export function styled(text: string, style: Style, colors: boolean): string {
  return colors ? styleText(style, text, { validateStream: false }) : text;
}

/** The widths of as many columns as fit. */
function layOut<Row>(
  columns: readonly Column<Row>[],
  rows: readonly (readonly string[])[],
  available = Number.POSITIVE_INFINITY,
): readonly number[] {
  const wanted = columns.map(({ title, usualWidth = 0 }, at) =>
    rows.reduce(
      (width, texts) => Math.max(width, widthOf(texts[at] ?? "")),
      Math.max(usualWidth, title.length),
    ),
  );
  for (let count = columns.length; count > 1; count--) {
    const kept = wanted.slice(0, count);
    const short = kept.map((width, at) => Math.min(width, columns[at]?.shortWidth ?? width));
    for (const widths of [kept, short]) {
      const shrunk = shrink(columns, widths, available - GAP.length * (count - 1));
      if (shrunk !== undefined) return shrunk;
    }
  }
  return [Math.min(wanted[0] ?? 0, available)];
}

/** Takes from the widest column again and again. Undefined if all are at their least. */
function shrink<Row>(
  columns: readonly Column<Row>[],
  wanted: readonly number[],
  available: number,
): readonly number[] | undefined {
  const widths = [...wanted];
  for (let total = widths.reduce((a, b) => a + b, 0); total > available; total--) {
    let widest: number | undefined;
    for (const [at, width] of widths.entries()) {
      if (width <= (columns[at]?.minWidth ?? width)) continue;
      if (widest === undefined || width > (widths[widest] ?? 0)) widest = at;
    }
    if (widest === undefined) return undefined;
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
  return widths;
}
