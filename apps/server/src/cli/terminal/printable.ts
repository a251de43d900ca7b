import stringWidth from "string-width";

/**
 * What a terminal obeys or hides instead of showing it: control characters, marks that turn the
 * direction of writing, line separators, halves of surrogate pairs. The zero-width joiner is not
 * among them: it only joins the parts of an emoji or of a word.
 */
const UNPRINTABLE = /[[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]--[\u200d]]/gv;
const ASCII = /^[ -~]*$/;
/** No character of a living script is longer. A heap of accents could cover the lines around it. */
const MAX_GRAPHEME_LENGTH = 32;
const REPLACEMENT = "\ufffd";
const ELLIPSIS = "…";
const graphemes = new Intl.Segmenter();

/**
 * A text that somebody else chose, such as a user's name, for a terminal. It cannot move the
 * cursor, change colors, or pretend to be another line: `\u{1b}` stands for the character.
 */
export function printable(text: string): string {
  if (ASCII.test(text)) return text;
  const escaped = text.replace(UNPRINTABLE, nameOf);
  return escaped.length <= MAX_GRAPHEME_LENGTH
    ? escaped
    : graphemesOf(escaped)
        .map((grapheme) => (grapheme.length > MAX_GRAPHEME_LENGTH ? REPLACEMENT : grapheme))
        .join("");
}

/** How many columns of a terminal a printable text takes. */
export function widthOf(text: string): number {
  return ASCII.test(text) ? text.length : stringWidth(text);
}

/** Cuts a printable text to so many columns. An ellipsis stands for the rest. */
export function cut(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  let rest = width - 1;
  let kept = "";
  for (const grapheme of graphemesOf(text.slice(0, width * MAX_GRAPHEME_LENGTH))) {
    rest -= widthOf(grapheme);
    if (rest < 0) break;
    kept += grapheme;
  }
  return kept + ELLIPSIS;
}

/** Fills a printable text with spaces up to so many columns. */
export function pad(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - widthOf(text)));
}

/**
 * A value as one line of JSON. It is as safe for a terminal as `printable`, and a parser reads
 * the same value from it.
 */
export function jsonLine(value: unknown): string {
  const escaped = JSON.stringify(value).replace(UNPRINTABLE, (character) =>
    character
      .split("")
      .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
      .join(""),
  );
  return `${escaped}\n`;
}

function graphemesOf(text: string): string[] {
  return Array.from(graphemes.segment(text), ({ segment }) => segment);
}

function nameOf(character: string): string {
  return `\\u{${character.codePointAt(0)?.toString(16)}}`;
}
