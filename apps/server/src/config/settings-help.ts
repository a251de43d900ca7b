import { SETTING_LIST } from "./settings.js";

const MAX_LINE_LENGTH = 80;
const INDENT = "      ";

/** What `--help` says of every setting. */
export function describeSettings(): string {
  return SETTING_LIST.map((setting) => {
    const words = setting.help.replaceAll("`", "").split(" ");
    if (setting.default !== undefined) words.push(`(default ${setting.default})`);
    const heading = `  --${setting.flag} ${setting.placeholder ?? ""}`.padEnd(41);
    return `${heading} ${setting.env}\n${wrap(words)}\n`;
  }).join("");
}

/** Lines of at most 80 characters, indented below their flag. */
function wrap(words: readonly string[]): string {
  const lines: string[] = [];
  let line = INDENT;
  for (const word of words) {
    if (line !== INDENT && line.length + 1 + word.length > MAX_LINE_LENGTH) {
      lines.push(line);
      line = INDENT;
    }
    line += line === INDENT ? word : ` ${word}`;
  }
  return [...lines, line].join("\n");
}
