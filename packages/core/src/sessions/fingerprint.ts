import { hash } from "node:crypto";

/** SHA-256 of a value's JSON in base64url, in any order of keys. The depth must be bounded. */
export function fingerprintOf(value: unknown): string {
  return hash("sha256", canonicalJson(value), "base64url");
}

/** JSON with the keys of each object sorted. */
function canonicalJson(value: unknown): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join()}]`;
  const entries = Object.entries(value)
    .filter(([, child]) => child !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, child]) => `${JSON.stringify(key)}:${canonicalJson(child)}`).join()}}`;
}
