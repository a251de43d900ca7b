import { Code } from "@connectrpc/connect";
import { SHED_DETAILS } from "@sessiond/core";
import { TOKEN_REFUSALS, TOKENS_PENDING } from "../auth/token-refusals.js";
import { CUT_REASONS } from "../edge/cut-reasons.js";
import { EDGE_DETAILS } from "../edge/edge-limits.js";
import type { Aggregator } from "./metric-reports.js";

/** One metric. */
interface MetricBase {
  readonly help: string;
  /** Each label with all of its values, or with what bounds them. Never a secret, a user or a session. */
  readonly labels: Readonly<Record<string, readonly string[] | string>>;
}

interface GrowingSpec extends MetricBase {
  readonly type: "counter" | "histogram";
}

interface GaugeSpec extends MetricBase {
  readonly type: "gauge";
  /** How the values of several workers become one. */
  readonly ofWorkers: Aggregator;
}

type MetricSpec = GrowingSpec | GaugeSpec;

/** `OK` and the names of Connect's codes, which are those of gRPC in Go. */
export type GrpcCode = "OK" | keyof typeof Code;

const GRPC_CODES: readonly string[] = [
  "OK",
  ...Object.keys(Code).filter((name) => !/^\d+$/.test(name)),
];
const RPC = {
  grpc_type: ["unary", "client_stream", "server_stream", "bidi_stream"],
  grpc_service: "the services of the API, gRPC health and reflection",
  grpc_method: "their methods",
  port: ["grpc", "http"],
} as const;
/** What can be full when a call is refused. */
export const SHED_REASONS = [...SHED_DETAILS, TOKENS_PENDING, ...EDGE_DETAILS] as const;
/** What the HTTP port answers to a request that gets to no method, or not in a form that can be read. */
export const REFUSED_STATUSES = [
  ...["400", "403", "404", "405"],
  ...["408", "413", "415", "431"],
] as const;

const BOOLEAN = ["true", "false"] as const;

/**
 * Every metric of our own, by its name. The page of docs and the registry are made of this table, and
 * nothing else makes a series. Of each, the labels are bounded by the contract or the configuration.
 */
export const METRICS = {
  grpc_server_handled_total: {
    type: "counter",
    help: "Calls that have ended, on both ports, by code.",
    labels: { ...RPC, grpc_code: GRPC_CODES },
  },
  grpc_server_handling_seconds: {
    type: "histogram",
    help: "How long calls took. A watch lasts as long as its client stays.",
    labels: RPC,
  },
  sessiond_sessions_active: {
    type: "gauge",
    ofWorkers: "first",
    help: "Active sessions of all namespaces in the store, as every server of the store sees them.",
    labels: {},
  },
  sessiond_sessions_created_total: {
    type: "counter",
    help: "Sessions that calls to this server created.",
    labels: {},
  },
  sessiond_sessions_ended_total: {
    type: "counter",
    help:
      "Sessions that calls to this server ended, and expired sessions that its sweeps found. Summed " +
      "over the servers of a store, created minus ended is active.",
    labels: { cause: ["revoked", "evicted", "expired", "reused"] },
  },
  sessiond_touches_total: {
    type: "counter",
    help: "Activity of sessions, by whether it was written. It is not while the last is recent.",
    labels: { written: BOOLEAN },
  },
  sessiond_store_seconds: {
    type: "histogram",
    help: "How long operations of the store took.",
    labels: { operation: "the operations of the store" },
  },
  sessiond_store_errors_total: {
    type: "counter",
    help:
      "Operations of the store that failed: it gave no answer in time, had no room, or made a fault. " +
      "A change without an answer may have been made.",
    labels: { kind: ["unavailable", "full", "internal"] },
  },
  sessiond_watch_streams: {
    type: "gauge",
    ofWorkers: "sum",
    help: "Open watches on this server.",
    labels: {},
  },
  sessiond_watch_lag_seconds: {
    type: "gauge",
    ofWorkers: "max",
    help:
      "How long ago changes may have been made that this server's watches have not heard of. About a " +
      "second at most while the store answers; 0 without watches.",
    labels: {},
  },
  sessiond_locks_waiting: {
    type: "gauge",
    ofWorkers: "sum",
    help: "Calls to this server that wait for a lock.",
    labels: {},
  },
  sessiond_rate_limit_checks_total: {
    type: "counter",
    help: "Attempts that CheckRateLimit decided about.",
    labels: { policy: "the policies of SESSIOND_RATE_LIMITS", allowed: BOOLEAN },
  },
  sessiond_access_tokens_refused_total: {
    type: "counter",
    help: "Calls that were refused because of their access token.",
    labels: { reason: TOKEN_REFUSALS },
  },
  sessiond_ready: {
    type: "gauge",
    ofWorkers: "min",
    help:
      "1 if this part of the server is ready, 0 if it is not, as `/readyz` tells. The server is ready " +
      "if its store and its issuers' keys are. It can do without its reserve, but creates no sessions.",
    labels: { part: ["store", "issuer_keys", "reserve"] },
  },
  sessiond_issuer_keys_age_seconds: {
    type: "gauge",
    ofWorkers: "max",
    help: "How long ago an issuer's keys were loaded. Missing until they were for the first time.",
    labels: { issuer: "the issuers of the auth file" },
  },
  sessiond_issuer_keys_failures_total: {
    type: "counter",
    help:
      "Loads of an issuer's keys that failed. They are repeated each second while calls need newer " +
      "keys; old keys serve for a day, unless configured otherwise.",
    labels: { issuer: "the issuers of the auth file" },
  },
  sessiond_tls_certificate_not_after_timestamp_seconds: {
    type: "gauge",
    ofWorkers: "min",
    help:
      "Until when the certificate is valid that new connections get, in seconds since 1970. A refused " +
      "renewal does not move it. Missing without TLS.",
    labels: {},
  },
  sessiond_shed_total: {
    type: "counter",
    help: "Calls that were refused because something was full.",
    labels: { reason: SHED_REASONS },
  },
  sessiond_http_refused_total: {
    type: "counter",
    help: "Requests to the HTTP port that became no call, so that no RPC metric has them.",
    labels: { status: REFUSED_STATUSES },
  },
  sessiond_connections: {
    type: "gauge",
    ofWorkers: "sum",
    help: "Open connections, on both ports.",
    labels: {},
  },
  sessiond_buffered_bytes: {
    type: "gauge",
    ofWorkers: "sum",
    help: "What requests that are not complete and answers that nobody has taken yet hold.",
    labels: {},
  },
  sessiond_cuts_total: {
    type: "counter",
    help: "Connections and streams that the server ended by itself: clients were slow, or too many.",
    labels: { reason: CUT_REASONS },
  },
  sessiond_sweeps_total: {
    type: "counter",
    help: "Sweeps of the store, which remove what has ended.",
    labels: { outcome: ["complete", "partial", "failed"] },
  },
  sessiond_sweep_reclaimed_total: {
    type: "counter",
    help: "Ended sessions that sweeps removed for good.",
    labels: {},
  },
  sessiond_sweep_healed_total: {
    type: "counter",
    help: "Index entries that sweeps corrected. Somebody else must have changed the store.",
    labels: {},
  },
  sessiond_audit_lines_dropped_total: {
    type: "counter",
    help: "Lines of the audit that are lost, because nothing took them in time.",
    labels: {},
  },
  sessiond_build_info: {
    type: "gauge",
    ofWorkers: "first",
    help: "Always 1, with the version of sessiond and of Node.",
    labels: { version: "one", node: "one" },
  },
} as const satisfies Record<string, MetricSpec>;

/** The name of a metric. */
export type MetricName = keyof typeof METRICS;

type NamesOf<Type> = {
  [N in MetricName]: (typeof METRICS)[N]["type"] extends Type ? N : never;
}[MetricName];
export type CounterName = NamesOf<"counter">;
export type GaugeName = NamesOf<"gauge">;
export type HistogramName = NamesOf<"histogram">;

/** The labels of a series: a value out of the table, or any text where the table says what bounds it. */
export type Labels<Name extends MetricName> = {
  readonly [L in keyof (typeof METRICS)[Name]["labels"]]: (typeof METRICS)[Name]["labels"][L] extends readonly (infer Value extends
    string)[]
    ? Value
    : string;
};
