const UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1_000],
] as const;

/** How long ago a time was, or how far ahead it is, in its largest unit: `3h ago`, `in 29m`. */
export function relativeTime(time: Date, nowMs: number): string {
  const ms = time.getTime() - nowMs;
  const [unit, unitMs] = UNITS.find(([, size]) => Math.abs(ms) >= size) ?? ["s", 1_000];
  const count = Math.floor(Math.abs(ms) / unitMs);
  if (count === 0) return "now";
  return ms < 0 ? `${count}${unit} ago` : `in ${count}${unit}`;
}
