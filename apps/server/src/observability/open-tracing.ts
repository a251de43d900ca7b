import { setTimeout as sleep } from "node:timers/promises";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import {
  defaultResource,
  detectResources,
  type Resource,
  resourceAttributesEnvDetector,
  resourceFromAttributes,
  serviceInstanceIdDetector,
  serviceNameEnvDetector,
} from "@opentelemetry/resources";
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  type Sampler,
  type SpanExporter,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import type { Logger } from "pino";
import { Spans } from "./spans.js";
import type { TracesConfig, Tracing } from "./tracing.js";

/** Spans that wait to be sent. More are dropped, so an endpoint that is down costs no more memory. */
const MAX_QUEUED_SPANS = 2_048;
/** The spans of one request. */
const MAX_BATCH_SIZE = 512;
/** How long a span waits for others. */
const BATCH_DELAY_MS = 5_000;
/** How long a server that stops, its calls done, tries to send its last spans. */
const FLUSH_MS = 2_000;

/** What `openTracing` needs besides the configuration. */
export interface TracingOptions {
  readonly logger: Logger;
  /** As OpenTelemetry names the database in `db.system.name`. */
  readonly store: "redis" | "sqlite";
}

/**
 * Opens tracing by OpenTelemetry's SDK. Import this file only if there are traces to send: it loads
 * the SDK. The exporter reads the endpoint, its headers, certificates and timeout from the
 * environment by itself, as every OpenTelemetry program does.
 */
export function openTracing(config: TracesConfig, { logger, store }: TracingOptions): Tracing {
  const processor = new BatchSpanProcessor({
    exporter: reported(new OTLPTraceExporter(), logger),
    maxQueueSize: MAX_QUEUED_SPANS,
    maxExportBatchSize: MAX_BATCH_SIZE,
    scheduledDelayMillis: BATCH_DELAY_MS,
  });
  const resource = describeProcess();
  // Nothing is registered globally: all spans of this program start here.
  const provider = new TracerProvider({
    sampler: samplerOf(config),
    resource,
    spanProcessors: [processor],
  });
  const spans = new Spans(provider.getTracer("sessiond"));
  const system = { "db.system.name": store };
  return {
    startCall: (call) => spans.startCall(call),
    aroundStoreCall: (operation, call) =>
      spans.around(operation, { ...system, "db.operation.name": operation }, call),
    aroundReplicaWait: (work) =>
      spans.around("replica wait", { ...system, "db.operation.name": "WAIT" }, work),
    aroundKeyLoad: (issuer, load) =>
      spans.around("issuer keys", { "sessiond.issuer": issuer }, load),
    close: async () => {
      const done = new AbortController();
      const limit = sleep(FLUSH_MS, undefined, { signal: done.signal });
      // The exporter's failure has been logged. The other rejection is the abort.
      await Promise.race([provider.shutdown(), limit]).catch(() => {});
      done.abort();
    },
  };
}

/** `OTEL_SERVICE_NAME` goes before `OTEL_RESOURCE_ATTRIBUTES`, and both before what we say. */
function describeProcess(): Resource {
  const ours = resourceFromAttributes({ "service.name": "sessiond" });
  const detectors = [
    serviceInstanceIdDetector,
    resourceAttributesEnvDetector,
    serviceNameEnvDetector,
  ];
  return defaultResource().merge(ours).merge(detectResources({ detectors }));
}

function samplerOf({ sampler, ratio }: TracesConfig): Sampler {
  const root = rootSamplerOf(sampler, ratio);
  return sampler.startsWith("parentbased_") ? new ParentBasedSampler({ root }) : root;
}

function rootSamplerOf(sampler: TracesConfig["sampler"], ratio: number): Sampler {
  if (sampler.endsWith("always_on")) return new AlwaysOnSampler();
  if (sampler.endsWith("always_off")) return new AlwaysOffSampler();
  return new TraceIdRatioBasedSampler(ratio);
}

/** Says in the log when the endpoint stops and starts taking spans: one line each, however long. */
function reported(exporter: SpanExporter, logger: Logger): SpanExporter {
  let isFailing = false;
  return {
    export: (spans, done) =>
      exporter.export(spans, (result) => {
        const error: NodeJS.ErrnoException | undefined = result.error;
        if (error !== undefined && !isFailing) {
          // Not the whole error, which has the endpoint's answer. If a host has several addresses,
          // Node's error has a code and no message.
          const why = error.message || error.code;
          logger.warn({ error: why }, "traces cannot be sent, so spans are dropped");
        } else if (error === undefined && isFailing) {
          logger.info("traces are sent again");
        }
        isFailing = error !== undefined;
        done(result);
      }),
    shutdown: () => exporter.shutdown(),
  };
}
