import type { ReportOutput } from "./command.js";

/** Of terminals that do not know their width: they say 0. */
const DEFAULT_COLUMNS = 80;

/** How many columns a terminal has. Undefined without a terminal. */
export function terminalWidth({ isTTY, columns }: ReportOutput): number | undefined {
  return isTTY ? columns || DEFAULT_COLUMNS : undefined;
}
