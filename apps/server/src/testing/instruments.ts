import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const ROOT = new URL("../../../../", import.meta.url);

/** The path of a file of the repository. */
export const inRepository = (path: string) => fileURLToPath(new URL(path, ROOT));

/** One query of the dashboard. */
export interface DashboardQuery {
  readonly panel: string;
  /** As Grafana would send it, for these jobs and servers. */
  readonly promql: string;
}

interface DashboardFile {
  readonly panels: readonly {
    readonly title: string;
    readonly targets?: readonly { readonly expr: string }[];
  }[];
}

/** Every query of the dashboard, about all servers of the job "sessiond". */
export async function dashboardQueries(window: string): Promise<readonly DashboardQuery[]> {
  const file = await readFile(inRepository("deploy/grafana/sessiond.json"), "utf8");
  const { panels } = JSON.parse(file) as DashboardFile;
  return panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr }) => ({
      panel: title,
      promql: expr
        .replaceAll("$__rate_interval", window)
        .replaceAll("$job", "sessiond")
        .replaceAll("$instance", ".+"),
    })),
  );
}

/** The selectors of a query, without what is done to them: `up{job="sessiond"}`. */
export function selectorsIn(promql: string): readonly string[] {
  const withoutGrouping = promql.replace(/\b(by|on|without|ignoring)\s*\([^)]*\)/g, " ");
  const found = [...withoutGrouping.matchAll(SELECTOR)].map(([, name, matchers = ""]) => ({
    name,
    selector: `${name}${matchers}`,
  }));
  const ofMetrics = found.filter(({ name }) => name !== undefined && !KEYWORDS.has(name));
  return [...new Set(ofMetrics.map(({ selector }) => selector))];
}

/** A name with its matchers; no function, and nothing in a string or in a range. */
const SELECTOR = /"[^"]*"|\[[^\]]*\]|(?<!\w)([a-zA-Z_:][\w:]*)(\{[^}]*\})?(?!\s*\(|\w)/g;
const KEYWORDS = new Set(["and", "or", "unless", "bool", "offset"]);
