import fc from "fast-check";

/** Any code point, as the `unit` of texts. The one of fast-check itself takes seconds to make. */
export const anyCharacter = fc
  .integer({ min: 0, max: 0x10ffff })
  .map((code) => String.fromCodePoint(code));
