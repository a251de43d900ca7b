// The dashboard for Grafana, in the classic JSON model that Grafana 11 writes.

/** A graph, or a single number. */
interface Panel {
  readonly title: string;
  readonly type?: "timeseries" | "stat";
  /** As Grafana calls it. */
  readonly unit: "none" | "short" | "reqps" | "ops" | "s" | "percentunit" | "bytes";
  /** PromQL by legend. `$on` stands for the chosen jobs and servers. */
  readonly queries: Readonly<Record<string, string>>;
  readonly description?: string;
}

const CALLS = 'grpc_service=~"sessiond.*", $on';
const FAULTS = 'grpc_type="unary", grpc_code=~"Unknown|Internal|Unavailable|DataLoss"';
const VERIFY_BUCKETS = `sum by (le) (rate(grpc_server_handling_seconds_bucket{grpc_method="VerifySession", ${CALLS}}[$__rate_interval]))`;

/** The rate of a counter. */
function rate(by: string, selector: string): string {
  return `sum by (${by}) (rate(${selector}[$__rate_interval]))`;
}

const ROWS: Readonly<Record<string, readonly Panel[]>> = {
  "At a glance": [
    { title: "Servers up", type: "stat", unit: "none", queries: { up: "sum(up{$on})" } },
    {
      title: "Servers not ready",
      type: "stat",
      unit: "none",
      queries: {
        "not ready": 'sum(1 - min by (job, instance) (sessiond_ready{part!="reserve", $on}))',
      },
    },
    {
      title: "Active sessions",
      type: "stat",
      unit: "short",
      queries: { "{{job}}": "max by (job) (sessiond_sessions_active{$on})" },
    },
    {
      title: "Failed calls",
      type: "stat",
      unit: "percentunit",
      description: "By a fault of the server, its store or its issuers.",
      queries: {
        failed:
          `(sum(rate(grpc_server_handled_total{${FAULTS}, ${CALLS}}[$__rate_interval])) or vector(0)) / ` +
          `sum(rate(grpc_server_handled_total{grpc_type="unary", ${CALLS}}[$__rate_interval]))`,
      },
    },
    {
      title: "VerifySession, 99th percentile",
      type: "stat",
      unit: "s",
      queries: { p99: `histogram_quantile(0.99, ${VERIFY_BUCKETS})` },
    },
    {
      title: "Versions",
      type: "stat",
      unit: "none",
      queries: {
        "sessiond {{version}}, Node {{node}}":
          "count by (version, node) (sessiond_build_info{$on})",
      },
    },
  ],
  Calls: [
    {
      title: "Calls by method and port",
      unit: "reqps",
      queries: {
        "{{grpc_method}} {{port}}": rate(
          "grpc_method, port",
          `grpc_server_handled_total{${CALLS}}`,
        ),
      },
    },
    {
      title: "Calls without OK, by method, port and code",
      unit: "reqps",
      description: "NotFound of VerifySession is a user who is not logged in: no fault of anybody.",
      queries: {
        "{{grpc_method}} {{port}} {{grpc_code}}": rate(
          "grpc_method, port, grpc_code",
          `grpc_server_handled_total{grpc_code!="OK", ${CALLS}}`,
        ),
      },
    },
    {
      title: "Duration by method and port, 99th percentile",
      unit: "s",
      description: "Without watches. AcquireLock waits for as long as it was asked to.",
      queries: {
        "{{grpc_method}} {{port}}": `histogram_quantile(0.99, ${rate(
          "grpc_method, port, le",
          `grpc_server_handling_seconds_bucket{grpc_type="unary", ${CALLS}}`,
        )})`,
      },
    },
    {
      title: "Duration of VerifySession",
      unit: "s",
      queries: {
        p50: `histogram_quantile(0.5, ${VERIFY_BUCKETS})`,
        p99: `histogram_quantile(0.99, ${VERIFY_BUCKETS})`,
      },
    },
    {
      title: "Access tokens refused, by reason",
      unit: "reqps",
      queries: { "{{reason}}": rate("reason", "sessiond_access_tokens_refused_total{$on}") },
    },
    {
      title: "Calls refused because something is full, by reason",
      unit: "reqps",
      queries: { "{{reason}}": rate("reason", "sessiond_shed_total{$on}") },
    },
  ],
  Sessions: [
    {
      title: "Active sessions",
      unit: "short",
      queries: { "{{job}}": "max by (job) (sessiond_sessions_active{$on})" },
    },
    {
      title: "Sessions created, and ended by cause",
      unit: "ops",
      queries: {
        created: "sum(rate(sessiond_sessions_created_total{$on}[$__rate_interval]))",
        "{{cause}}": rate("cause", "sessiond_sessions_ended_total{$on}"),
      },
    },
    {
      title: "Touches, by whether they are written",
      unit: "ops",
      queries: { "written: {{written}}": rate("written", "sessiond_touches_total{$on}") },
    },
  ],
  Store: [
    {
      title: "Operations",
      unit: "ops",
      queries: { "{{operation}}": rate("operation", "sessiond_store_seconds_count{$on}") },
    },
    {
      title: "Duration by operation, 99th percentile",
      unit: "s",
      queries: {
        "{{operation}}": `histogram_quantile(0.99, ${rate("operation, le", "sessiond_store_seconds_bucket{$on}")})`,
      },
    },
    {
      title: "Operations that failed, by kind",
      unit: "ops",
      queries: { "{{kind}}": rate("kind", "sessiond_store_errors_total{$on}") },
    },
    {
      title: "Sweeps, by outcome",
      unit: "ops",
      queries: { "{{outcome}}": rate("outcome", "sessiond_sweeps_total{$on}") },
    },
    {
      title: "Sessions that sweeps removed, and index entries that they put right",
      unit: "ops",
      queries: {
        removed: "sum(rate(sessiond_sweep_reclaimed_total{$on}[$__rate_interval]))",
        "put right": "sum(rate(sessiond_sweep_healed_total{$on}[$__rate_interval]))",
      },
    },
    {
      title: "Servers of which a part is not ready",
      unit: "none",
      description: "Without its reserve a server is ready, but creates no sessions.",
      queries: { "{{part}}": "sum by (part) (1 - sessiond_ready{$on})" },
    },
  ],
  "Watches, locks, rate limits, issuers": [
    {
      title: "Open watches",
      unit: "short",
      queries: { "{{instance}}": "sessiond_watch_streams{$on}" },
    },
    {
      title: "How late watches are",
      unit: "s",
      queries: { "{{instance}}": "sessiond_watch_lag_seconds{$on}" },
    },
    {
      title: "Calls that wait for a lock",
      unit: "short",
      queries: { "{{instance}}": "sessiond_locks_waiting{$on}" },
    },
    {
      title: "Rate limit checks, by policy and whether allowed",
      unit: "reqps",
      queries: {
        "{{policy}}, allowed: {{allowed}}": rate(
          "policy, allowed",
          "sessiond_rate_limit_checks_total{$on}",
        ),
      },
    },
    {
      title: "Age of issuers' keys",
      unit: "s",
      description: "Keys in use are reloaded each minute. Keys that nobody needs grow older.",
      queries: { "{{instance}} {{issuer}}": "sessiond_issuer_keys_age_seconds{$on}" },
    },
    {
      title: "Loads of issuers' keys that failed",
      unit: "ops",
      queries: {
        "{{instance}} {{issuer}}": rate(
          "instance, issuer",
          "sessiond_issuer_keys_failures_total{$on}",
        ),
      },
    },
  ],
  Process: [
    {
      title: "Event loop delay, 99th percentile",
      unit: "s",
      description: "Measured every 10 ms, which it includes.",
      queries: { "{{instance}}": "nodejs_eventloop_lag_p99_seconds{$on}" },
    },
    {
      title: "CPU",
      unit: "percentunit",
      description: "Of one core. Calls are served by one.",
      queries: { "{{instance}}": rate("instance", "process_cpu_seconds_total{$on}") },
    },
    {
      title: "Memory",
      unit: "bytes",
      queries: {
        "{{instance}} resident": "process_resident_memory_bytes{$on}",
        "{{instance}} heap used": "nodejs_heap_size_used_bytes{$on}",
      },
    },
    {
      title: "File descriptors that are open",
      unit: "percentunit",
      description: "Each connection takes one.",
      queries: { "{{instance}}": "process_open_fds{$on} / process_max_fds{$on}" },
    },
    {
      title: "Lines of the audit that were lost",
      unit: "ops",
      description: "Its disk is full, or its reader is too slow.",
      queries: { "{{instance}}": rate("instance", "sessiond_audit_lines_dropped_total{$on}") },
    },
  ],
};

/** Grafana divides the page into 24 columns. */
const COLUMNS = 24;
const SIZES = { stat: { w: 4, h: 4 }, timeseries: { w: 8, h: 8 } } as const;
const DATASOURCE = { type: "prometheus", uid: "$datasource" };

/** The dashboard as Grafana imports it. */
export function dashboard(): string {
  return JSON.stringify({
    uid: "sessiond",
    title: "sessiond",
    schemaVersion: 39,
    editable: true,
    graphTooltip: 1,
    refresh: "30s",
    time: { from: "now-1h", to: "now" },
    templating: {
      list: [
        { name: "datasource", label: "Data source", type: "datasource", query: "prometheus" },
        variable("job", "Job", "label_values(sessiond_build_info, job)"),
        variable("instance", "Server", 'label_values(sessiond_build_info{job=~"$job"}, instance)'),
      ],
    },
    panels: layOut(),
  });
}

/** A variable of which several values can be chosen. All are at first. */
function variable(name: string, label: string, query: string) {
  const all = { text: "All", value: "$__all" };
  return {
    ...{ name, label, type: "query", datasource: DATASOURCE, query: { query, refId: name } },
    ...{ refresh: 2, sort: 1, multi: true, includeAll: true, current: all },
  };
}

/** Rows from top to bottom, and their panels from left to right. */
function layOut(): object[] {
  const laid: object[] = [];
  let y = 0;
  for (const [title, panels] of Object.entries(ROWS)) {
    const place = { h: 1, w: COLUMNS, x: 0, y };
    laid.push({ id: laid.length + 1, type: "row", title, gridPos: place, panels: [] });
    y += 1;
    let x = 0;
    let height = 0;
    for (const panel of panels) {
      const { w, h } = SIZES[panel.type ?? "timeseries"];
      if (x + w > COLUMNS) {
        x = 0;
        y += height;
      }
      laid.push({ id: laid.length + 1, ...drawn(panel), gridPos: { h, w, x, y } });
      x += w;
      height = h;
    }
    y += height;
  }
  return laid;
}

function drawn({ title, type = "timeseries", unit, queries, description }: Panel): object {
  return {
    ...{ type, title, ...(description && { description }), datasource: DATASOURCE },
    fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
    // The newest value. A name is what matters of a version.
    ...(type === "stat" && {
      options: {
        reduceOptions: { calcs: ["lastNotNull"] },
        ...(title === "Versions" && { textMode: "name" }),
      },
    }),
    targets: Object.entries(queries).map(([legendFormat, query], i) => ({
      refId: String.fromCharCode("A".charCodeAt(0) + i),
      expr: query.replaceAll("$on", 'job=~"$job", instance=~"$instance"'),
      legendFormat,
    })),
  };
}
