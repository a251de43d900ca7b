import type { SessionStore } from "@sessiond/core";
import type { Labels } from "./metric-table.js";
import type { Metrics } from "./metrics.js";

/** How old the count of active sessions may be in a scrape, however many ask. */
const COUNTED_FOR_MS = 1_000;

/** What gauges are read from. */
export interface GaugedServer {
  readonly sessions: SessionStore;
  readonly namespaces: {
    readonly watches: number;
    readonly watchLagMs: number;
    readonly waitingForLocks: number;
  };
  /** Undefined without TLS. */
  readonly certificate?: { readonly notAfterMs: number } | undefined;
  readonly edge: { readonly connections: number; readonly bufferedBytes: number };
  readonly verifier: { keyLoadTimesMs(): ReadonlyMap<string, number | undefined> };
  readonly readiness: { describe(): { readonly parts: Partial<Record<PartName, IsReady>> } };
}

type PartName = Labels<"sessiond_ready">["part"];
interface IsReady {
  readonly ready: boolean;
}

/** Has the gauges of a server read at each scrape. */
export function gaugeServer(
  metrics: Metrics,
  { sessions, namespaces, edge, verifier, readiness, certificate }: GaugedServer,
): void {
  const count = rememberedFor(COUNTED_FOR_MS, () => countAll(sessions));
  metrics.gauge("sessiond_sessions_active", async () => [{ labels: {}, value: await count() }]);
  metrics.gauge("sessiond_watch_streams", () => [{ labels: {}, value: namespaces.watches }]);
  metrics.gauge("sessiond_watch_lag_seconds", () => [
    { labels: {}, value: namespaces.watchLagMs / 1000 },
  ]);
  metrics.gauge("sessiond_locks_waiting", () => [
    { labels: {}, value: namespaces.waitingForLocks },
  ]);
  metrics.gauge("sessiond_ready", () => {
    const { parts } = readiness.describe();
    // Readiness tells of the reserve only while it is in use.
    const all = { reserve: { ready: true }, ...parts };
    return (Object.keys(all) as PartName[]).map((part) => ({
      labels: { part },
      value: all[part]?.ready ? 1 : 0,
    }));
  });
  metrics.gauge("sessiond_tls_certificate_not_after_timestamp_seconds", () =>
    certificate === undefined ? [] : [{ labels: {}, value: certificate.notAfterMs / 1000 }],
  );
  metrics.gauge("sessiond_connections", () => [{ labels: {}, value: edge.connections }]);
  metrics.gauge("sessiond_buffered_bytes", () => [{ labels: {}, value: edge.bufferedBytes }]);
  metrics.gauge("sessiond_issuer_keys_age_seconds", () =>
    [...verifier.keyLoadTimesMs()].flatMap(([issuer, timeMs]) =>
      timeMs === undefined ? [] : { labels: { issuer }, value: (Date.now() - timeMs) / 1000 },
    ),
  );
}

/** The active sessions of all namespaces, one namespace after the other: a scrape is in no hurry. */
async function countAll(sessions: SessionStore): Promise<number> {
  let active = 0;
  for (const name of await sessions.namespaces()) active += await sessions.namespace(name).count();
  return active;
}

/** Asks at most once in a while. Who asks meanwhile gets the same answer. A failure is forgotten. */
function rememberedFor<T>(ms: number, ask: () => Promise<T>): () => Promise<T> {
  let answer: Promise<T> | undefined;
  let untilMs = 0;
  return () => {
    if (answer === undefined || performance.now() >= untilMs) {
      const asked = ask();
      answer = asked;
      untilMs = performance.now() + ms;
      asked.catch(() => {
        if (answer === asked) answer = undefined;
      });
    }
    return answer;
  };
}
