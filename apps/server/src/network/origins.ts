/** Browsers also have origins of other schemes than HTTP, such as chrome-extension://… */
const ORIGIN = /^[a-z][a-z0-9+.-]*:\/\/[^\s/?#@]+$/;

/**
 * Reads exact origins, separated by commas: `https://app.example.com,http://localhost:5173`. Throws
 * an Error that says what was expected. An origin must stand as browsers send it (RFC 6454, 6.2):
 * they are compared as texts.
 */
export function parseOrigins(text: string): readonly string[] {
  const origins = text.split(",").map((origin) => origin.trim());
  origins.forEach(checkOrigin);
  return [...new Set(origins)];
}

function checkOrigin(text: string): void {
  const isWeb = /^https?:/i.test(text);
  const origin = isWeb ? URL.parse(text)?.origin : text;
  if (origin !== undefined && origin !== text && !text.includes("*")) {
    throw new Error(`expected an origin as browsers send it, such as ${origin}`);
  }
  if (origin === undefined || text.includes("*") || !ORIGIN.test(text)) {
    throw new Error(
      "expected exact origins such as https://app.example.com, separated by commas, without wildcards",
    );
  }
}
