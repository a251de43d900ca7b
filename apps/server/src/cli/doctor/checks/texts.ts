const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** A number of bytes for people, such as `1.5 GiB`. */
export function formatBytes(bytes: number): string {
  let rest = bytes;
  let unit = 0;
  for (; rest >= 1024 && unit < UNITS.length - 1; unit++) rest /= 1024;
  return `${rest >= 10 ? Math.round(rest) : Math.round(rest * 10) / 10} ${UNITS[unit]}`;
}

/** `1 session`, `2 sessions`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
