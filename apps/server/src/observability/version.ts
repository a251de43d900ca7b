import { readFileSync } from "node:fs";

/** The version of this package, as its package.json has it. */
export function version(): string {
  const json: unknown = JSON.parse(
    readFileSync(new URL("../../package.json", import.meta.url), "utf8"),
  );
  const hasVersion = typeof json === "object" && json !== null && "version" in json;
  return hasVersion ? String(json.version) : "";
}
