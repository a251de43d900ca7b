import { readFile } from "node:fs/promises";

/** How long a token that was read counts as current. Files change every few minutes at most. */
const FRESH_MS = 1_000;

/** How long calls go on with the last token while the file cannot be read. */
const MAX_STALE_MS = 60_000;

/**
 * The `token` of a client from a file that somebody else renews, such as the projected service
 * account token of a Kubernetes pod. Reads the file again when a call comes and the last read is a
 * second ago. While the file is missing or empty, calls go on with the last token for a minute, and
 * then fail with TOKEN_UNAVAILABLE.
 */
export function tokenFile(path: string): () => Promise<string> {
  let last: { readonly token: string; readonly timeMs: number } | undefined;
  let reading: Promise<string> | undefined;

  const read = async (): Promise<string> => {
    try {
      const token = (await readFile(path, "utf8")).trim();
      if (token === "") throw new Error(`${path} is empty`);
      last = { token, timeMs: performance.now() };
      return token;
    } catch (error) {
      if (last !== undefined && performance.now() - last.timeMs < MAX_STALE_MS) return last.token;
      throw error;
    } finally {
      reading = undefined;
    }
  };

  return async () => {
    if (last !== undefined && performance.now() - last.timeMs < FRESH_MS) return last.token;
    reading ??= read();
    return reading;
  };
}
