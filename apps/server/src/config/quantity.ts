const UNITS = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 } as const;
const SIZE = /^(\d{1,9})(B|KiB|MiB|GiB)$/;

/** A whole number. Throws an Error that says which are expected. */
export function parseCount(
  text: string,
  { min, max }: { readonly min: number; readonly max: number },
): number {
  const count = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (count >= min && count <= max) return count;
  throw new Error(`expected a whole number from ${min} to ${max}`);
}

/** A number of bytes, as `4MiB`. Throws an Error that says which are expected. */
export function parseSize(
  text: string,
  { min, max }: { readonly min: string; readonly max: string },
): number {
  const bytes = bytesOf(text);
  if (bytes >= bytesOf(min) && bytes <= bytesOf(max)) return bytes;
  throw new Error(`expected a size from ${min} to ${max}, with the unit B, KiB, MiB or GiB`);
}

/** As `parseSize` reads it, in the largest unit that makes it a whole number. */
export function formatSize(bytes: number): string {
  const units = Object.entries(UNITS).reverse();
  const [unit, size] = units.find(([, size]) => bytes % size === 0) ?? ["B", 1];
  return `${bytes / size}${unit}`;
}

/** NaN if it is no size. */
function bytesOf(text: string): number {
  const [, count, unit] = SIZE.exec(text) ?? [];
  return Number(count) * UNITS[unit as keyof typeof UNITS];
}
