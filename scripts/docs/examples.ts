import { readFileSync } from "node:fs";

const FENCE = "```";

/** A code block that names its source: "```go scripts/interop/go/client.go#calls". */
const EXAMPLE = /^```(\w+ (\S+)#(\w+))\n.*?^```$/gms;

/** Fills the code blocks that name a source with the code there, which something else runs. */
export function withExamples(page: string): string {
  return page.replace(EXAMPLE, (_, info: string, path: string, name: string) =>
    [FENCE + info, region(path, name), FENCE].join("\n"),
  );
}

/** The lines between the comments `region <name>` and `endregion`, without their common indent. */
function region(path: string, name: string): string {
  const [, code] =
    new RegExp(`^ *(?:#|//) region ${name}\n(.*?)\n+ *(?:#|//) endregion$`, "ms").exec(
      readFileSync(path, "utf8"),
    ) ?? [];
  if (code === undefined) throw new Error(`${path}: expected a region ${name}`);
  const indent = /^ */.exec(code)?.[0] ?? "";
  return code.replaceAll(new RegExp(`^${indent}`, "gm"), "");
}
