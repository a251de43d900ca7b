/** Throws a TypeError that names the first option that does not exist: a typo would do nothing. */
export function checkNames(
  options: object,
  names: Readonly<Record<string, true>>,
  prefix = "",
): void {
  const unknown = Object.keys(options).find((name) => !Object.hasOwn(names, name));
  if (unknown === undefined) return;
  const expected = Object.keys(names).join(", ");
  throw new TypeError(`${prefix}${unknown}: unknown; expected one of ${expected}`);
}
