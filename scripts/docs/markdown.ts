const MAX_LINE_LENGTH = 100;
/** Code, spaces included, or a word. */
const TOKEN = /(?:`[^`]*`|[^\s`])+/g;
/** Markdown takes this for a list, a heading or a quotation if it begins a line. */
const MARKER = /^(?:[-+*>#]|\d+[.)])$/;

/** Breaks a paragraph into lines of at most 100 characters, the first behind a prefix of its own. */
export function wrap(paragraph: string, first = "", rest = first): string {
  const [start = "", ...tokens] = paragraph.match(TOKEN) ?? [];
  const lines: string[] = [];
  let line = first + start;
  for (const token of tokens) {
    if (line.length + 1 + token.length <= MAX_LINE_LENGTH || MARKER.test(token)) {
      line += ` ${token}`;
    } else {
      lines.push(line);
      line = rest + token;
    }
  }
  return [...lines, line].join("\n");
}

/** A list item of one or more paragraphs. An item of a list within a list has depth 1. */
export function listItem(paragraphs: readonly string[], depth = 0): string {
  const indent = "  ".repeat(depth);
  return paragraphs
    .map((text, i) => wrap(text, i === 0 ? `${indent}- ` : `${indent}  `, `${indent}  `))
    .join("\n\n");
}

/** A table; the first row is its head. */
export function table([head = [], ...rows]: readonly (readonly string[])[]): string {
  const rule = head.map(() => "---");
  return [head, rule, ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** The link target that a heading becomes. */
export function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(" ", "-")
    .replace(/[^\w-]/g, "");
}

/** Puts an empty line between the blocks of a page: headings, paragraphs, lists. */
export function blocks(...parts: readonly string[]): string {
  return parts.filter((part) => part !== "").join("\n\n");
}
