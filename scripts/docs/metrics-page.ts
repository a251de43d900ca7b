import { METRICS } from "../../apps/server/dist/observability/metric-table.js";
import { BUCKETS_S } from "../../apps/server/dist/observability/series.js";
import { blocks, table, wrap } from "./markdown.ts";

const INTRODUCTION = `\
<!-- \`pnpm generate\` writes this page from the server's table of metrics. -->

# Metrics

\`GET /metrics\` on the HTTP port, or on [SESSIOND_METRICS_ADDRESS](configuration.md#sessiond_metrics_address)
alone where that is set, answers in the text format of Prometheus, or in OpenMetrics to who asks for it
in the \`Accept\` header. Besides the metrics below there are those of the process and of Node
(\`process_\`, \`nodejs_\`, among them the delay of the event loop), as \`prom-client\` names them.
[operations.md](operations.md#alerts) has the dashboard and the alerts that use them.

Every label has a bounded number of values, and none holds a token, a user, a session or a namespace.`;

const SUM = `\
## Created minus ended is active

Summed over all servers that share a store,

\`\`\`promql
sum(sessiond_sessions_created_total) - sum(sessiond_sessions_ended_total)
\`\`\`

grows and falls exactly as \`sessiond_sessions_active\` does, which every server reads from the store.
Whoever ends a session is told so by the store and counts it: a call that revokes or evicts, a report of
a stolen token, or the first sweep after an expiry. A server sweeps every five seconds, or less often
where a sweep takes long, but at least every half minute: the sum is late by that much.

Four things put the sum off for good:

- A call that failed with \`STORE_UNAVAILABLE\` may have made its change. It counts nothing, so a session
  that it created is missing from the sum, and a session that it ended is still in it.
- A server that was killed takes with it what it counted since its last scrape.
- A failover of Redis that loses writes loses sessions that were counted as created, or brings back
  what was counted as ended. What a server revokes again after a failover was counted the first time.
- Sessions that somebody removes from the store by hand.

Counters begin at 0 with each server, so compare increases. A difference that keeps growing without
errors in \`sessiond_store_errors_total\` is a fault.`;

/** The page about every metric. */
export function metricsPage(): string {
  const sections = Object.entries(METRICS).map(([name, { type, help, labels }]) => {
    const rows = Object.entries<readonly string[] | string>(labels).map(([label, values]) => [
      `\`${label}\``,
      typeof values === "string" ? values : values.map((value) => `\`${value}\``).join(", "),
    ]);
    const list = rows.length > 0 ? table([["label", "values"], ...rows]) : "";
    return blocks(`### ${name}`, wrap(`${titled(type)}. ${help}`), list);
  });
  const buckets = `The buckets of a histogram end at ${BUCKETS_S.map((bound) => `${bound}`).join(", ")} s.`;
  return `${blocks(INTRODUCTION, SUM, "## Every metric", wrap(buckets), ...sections)}\n`;
}

function titled(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}
