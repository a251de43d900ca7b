const PATTERN = /^(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?$/;

const UNITS = [
  { name: "d", ms: 86_400_000 },
  { name: "h", ms: 3_600_000 },
  { name: "m", ms: 60_000 },
  { name: "s", ms: 1_000 },
  { name: "ms", ms: 1 },
] as const;

/** A century: far beyond any sensible timeout, and safely within what a Date can hold. */
const MAX_DURATION_MS = 36_500 * 86_400_000;

/**
 * Reads a duration such as `500ms`, `30m`, `7d` or `1h30m` (units in falling order, each at most
 * once) as milliseconds. Throws an Error for zero, negative values and fractions.
 */
export function parseDuration(text: string): number {
  const counts = PATTERN.exec(text)?.slice(1);
  if (counts === undefined || text === "") {
    throw new Error("expected a duration such as 30m or 24h");
  }
  const ms = UNITS.reduce((sum, unit, i) => sum + Number(counts[i] ?? 0) * unit.ms, 0);
  if (ms === 0) throw new Error("expected a duration longer than zero");
  if (ms > MAX_DURATION_MS) {
    throw new Error(`expected a duration of at most ${formatDuration(MAX_DURATION_MS)}`);
  }
  return ms;
}

/** Writes whole milliseconds as `parseDuration` reads them: `1h30m`. Zero is `0s`. */
export function formatDuration(durationMs: number): string {
  let restMs = durationMs;
  let text = "";
  for (const unit of UNITS) {
    const count = Math.floor(restMs / unit.ms);
    if (count > 0) text += `${count}${unit.name}`;
    restMs -= count * unit.ms;
  }
  return text === "" ? "0s" : text;
}
