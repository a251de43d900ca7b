/** One of these words. Throws an Error that lists them. */
export function parseChoice<T extends string>(text: string, choices: readonly T[]): T {
  const choice = choices.find((candidate) => candidate === text);
  if (choice === undefined) {
    const list = new Intl.ListFormat("en", { type: "disjunction" });
    throw new Error(`expected ${list.format(choices)}`);
  }
  return choice;
}

/** `true` or `false`. Throws an Error for any other text. */
export function parseBoolean(text: string): boolean {
  return parseChoice(text, ["true", "false"]) === "true";
}
