// Generates files from the built server and the contract: the reference pages and the auth file's
// JSON Schema; the dashboard from its table; and the examples in a page from code that runs. With --check it only names stale files.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { authFileJsonSchema } from "../apps/server/dist/config/auth-config.js";
import { SERVICES } from "../apps/server/dist/services/services.js";
import { apiPage } from "./docs/api-page.ts";
import { auditPage } from "./docs/audit-page.ts";
import { configurationPage } from "./docs/configuration-page.ts";
import { readContract } from "./docs/contract.ts";
import { dashboard } from "./docs/dashboard.ts";
import { withExamples } from "./docs/examples.ts";
import { metricsPage } from "./docs/metrics-page.ts";

const serviceNames = SERVICES.map(({ name }) => name);
const contents = new Map([
  ["docs/api.md", apiPage(readContract(), serviceNames)],
  ["docs/configuration.md", configurationPage()],
  ["docs/metrics.md", metricsPage()],
  ["deploy/grafana/sessiond.json", dashboard()],
  ["docs/audit.md", auditPage()],
  ["apps/server/auth.schema.json", JSON.stringify(authFileJsonSchema())],
  ["docs/recipes.md", withExamples(readFileSync("docs/recipes.md", "utf8"))],
  ["docs/stubs.md", withExamples(readFileSync("docs/stubs.md", "utf8"))],
]);
const files = [...contents].map(([path, content]) => [path, formatted(path, content)] as const);

if (process.argv.includes("--check")) {
  const stale = files.filter(([path, text]) => currentText(path) !== text);
  if (stale.length > 0) {
    console.error(`not current (run: pnpm generate): ${stale.map(([path]) => path).join(", ")}`);
    process.exit(1);
  }
} else {
  for (const [path, text] of files) writeFileSync(path, text);
}

function currentText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** Formats with Biome, as `biome ci` expects. */
function formatted(path: string, text: string): string {
  return execFileSync("biome", ["format", `--stdin-file-path=${path}`], {
    input: text,
    encoding: "utf8",
  });
}
