import { invalidArgument } from "../errors.js";
import { LIMITS } from "../validation.js";
import { fingerprintOf } from "./fingerprint.js";
import { isChosenId, isGeneratedId } from "./session-id.js";
import type { ListCursor } from "./session-store.js";

/**
 * Writes the position after a session as an opaque token for the same query. `query` has all that
 * the next call must have in common: the filters and the namespace. Its reader has just seen all
 * that it holds, so it is neither sealed nor signed.
 */
export function formatPageToken(query: object, cursor: ListCursor): string {
  const json = JSON.stringify([queryFingerprintOf(query), cursor.createTimeMs, cursor.id]);
  return Buffer.from(json).toString("base64url");
}

/** Reads a token of this query. Throws INVALID_ARGUMENT naming `page_token` for any other token. */
export function parsePageToken(query: object, token: string): ListCursor {
  const [queryFingerprint, createTimeMs, id] = parseParts(token);
  if (
    typeof createTimeMs !== "number" ||
    !Number.isSafeInteger(createTimeMs) ||
    typeof id !== "string" ||
    !(isGeneratedId(id) || isChosenId(id))
  ) {
    throw invalidArgument("page_token", "expected the next_page_token of an earlier call");
  }
  if (queryFingerprint !== queryFingerprintOf(query)) {
    throw invalidArgument(
      "page_token",
      "it belongs to another query; only page_size may change from page to page",
    );
  }
  return { createTimeMs, id };
}

function parseParts(token: string): readonly unknown[] {
  if (token.length > LIMITS.pageTokenBytes) return [];
  try {
    const parts: unknown = JSON.parse(Buffer.from(token, "base64url").toString());
    return Array.isArray(parts) ? parts : [];
  } catch {
    return [];
  }
}

/** 16 characters: it guards against mistakes, not against forgery. */
function queryFingerprintOf(query: object): string {
  return fingerprintOf(query).slice(0, 16);
}
