/**
 * The candidate that `name` is probably a misspelling of. It differs in at most a third of the
 * letters, or one of the two begins with the other. Undefined if there is none.
 */
export function closestName(name: string, candidates: readonly string[]): string | undefined {
  const ranked = candidates
    .map((candidate) => ({ candidate, edits: editsBetween(name, candidate) }))
    .filter(({ edits }) => edits <= Math.max(1, Math.floor(name.length / 3)))
    .sort((a, b) => a.edits - b.edits);
  return ranked[0]?.candidate ?? candidates.find((candidate) => isBeginning(name, candidate));
}

/** Whether one begins with the other. One or two letters are too few to tell. */
function isBeginning(a: string, b: string): boolean {
  return Math.min(a.length, b.length) > 2 && (a.startsWith(b) || b.startsWith(a));
}

/** ` (did you mean …?)` with the closest candidate after `prefix`, or an empty string. */
export function didYouMean(name: string, candidates: readonly string[], prefix = ""): string {
  const closest = closestName(name, candidates);
  return closest === undefined ? "" : ` (did you mean ${prefix}${closest}?)`;
}

/** How many letters to add, remove, replace or swap (the optimal string alignment distance). */
function editsBetween(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  const at = (i: number, j: number): number => rows[i]?.[j] ?? Number.POSITIVE_INFINITY;
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    rows.push(row);
    for (let j = 1; j <= b.length; j++) {
      const replaced = at(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swapped = isSwap ? at(i - 2, j - 2) + 1 : Number.POSITIVE_INFINITY;
      row.push(Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, replaced, swapped));
    }
  }
  return at(a.length, b.length);
}
