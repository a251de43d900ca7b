import { existsSync, readFileSync, writeFileSync } from "node:fs";

const RESULTS = new URL("RESULTS.md", import.meta.url);
const TITLE = "# Measurements";

/** Writes a section of RESULTS.md. Replaces the section with the same heading. */
export function writeSection(heading: string, text: string): void {
  const file = existsSync(RESULTS) ? readFileSync(RESULTS, "utf8") : "";
  const [, ...sections] = file.split(/^## /m);
  const section = `${heading}\n\n${text.trim()}\n\n`;
  const at = sections.findIndex((other) => other.startsWith(`${heading}\n`));
  if (at === -1) sections.push(section);
  else sections[at] = section;
  const body = sections.map((other) => `## ${other.trim()}\n`).join("\n");
  writeFileSync(RESULTS, `${TITLE}\n\n${body}`);
  console.log(`\n## ${section}`);
}

/** The lowest and the highest value of the middle half. */
export function quartersOf(values: readonly number[]): readonly [low: number, high: number] {
  const sorted = values.toSorted((a, b) => a - b);
  const quarter = Math.round(sorted.length / 4);
  return [sorted.at(quarter) ?? Number.NaN, sorted.at(-1 - quarter) ?? Number.NaN];
}

/** The middle value, or the mean of the two middle values. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  const [low = Number.NaN, high = Number.NaN] = [
    sorted[Math.floor(middle)],
    sorted[Math.ceil(middle)],
  ];
  return (low + high) / 2;
}
