import { TRACE_SAMPLERS, type TracesConfig } from "../observability/tracing.js";
import type { Environment } from "./environment.js";

/** OpenTelemetry's variables that sessiond reads, for the documentation. */
export const TRACE_VARIABLES = {
  OTEL_EXPORTER_OTLP_ENDPOINT:
    "where to send traces: the URL of a collector, such as `http://127.0.0.1:4318`. Traces are off " +
    "without it",
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT:
    "the same for traces alone, with the path, such as `http://127.0.0.1:4318/v1/traces`. It goes " +
    "before the other",
  OTEL_EXPORTER_OTLP_HEADERS:
    "headers of each request to the collector, such as `api-key=…`. So too " +
    "`OTEL_EXPORTER_OTLP_TIMEOUT`, `_COMPRESSION`, `_CERTIFICATE`, `_CLIENT_CERTIFICATE` and " +
    "`_CLIENT_KEY`, and each with `_TRACES_` in its name",
  OTEL_EXPORTER_OTLP_PROTOCOL: "`http/protobuf`, which is the default and the only one",
  OTEL_SERVICE_NAME: "the name of the service in traces, default `sessiond`",
  OTEL_RESOURCE_ATTRIBUTES:
    "what else to say of the process, such as `deployment.environment.name=prod`",
  OTEL_TRACES_SAMPLER:
    `which traces are recorded: ${TRACE_SAMPLERS.map((name) => `\`${name}\``).join(", ")}; default ` +
    "`parentbased_always_on`. With `parentbased`, a caller that sends its trace decides for it",
  OTEL_TRACES_SAMPLER_ARG:
    "the share of traces that the samplers with `traceidratio` record, from `0` to `1`, default `1`",
  OTEL_TRACES_EXPORTER: "`otlp`, which is the default, or `none`, which turns traces off",
  OTEL_SDK_DISABLED: "`true` turns traces off",
} as const;

type TraceVariable = keyof typeof TRACE_VARIABLES | "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";

/** What the configuration says about traces, if they are on, and every fault. */
export interface ReadTraces {
  readonly traces: TracesConfig | undefined;
  /** Each by its variable. No fault shows a value: an endpoint may have a password. */
  readonly faults: readonly string[];
}

/**
 * Reads OpenTelemetry's variables. An empty variable counts as unset. If traces are off, no variable
 * is at fault: platforms set them for all of their programs.
 */
export function readTracesConfig(env: Environment): ReadTraces {
  const read = (name: TraceVariable) => env[name]?.trim() || undefined;
  const endpoint: TraceVariable = read("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    ? "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    : "OTEL_EXPORTER_OTLP_ENDPOINT";
  const url = read(endpoint);
  const exporter = read("OTEL_TRACES_EXPORTER") ?? "otlp";
  const isDisabled = read("OTEL_SDK_DISABLED")?.toLowerCase() === "true";
  if (url === undefined || exporter === "none" || isDisabled) {
    return { traces: undefined, faults: [] };
  }
  const faults: string[] = [];
  const expect = (isRight: boolean, name: TraceVariable, expected: string) => {
    if (!isRight) faults.push(`${name}: expected ${expected}`);
  };
  const { protocol } = URL.parse(url) ?? {};
  expect(["http:", "https:"].includes(`${protocol}`), endpoint, "a URL of http or https");
  expect(exporter === "otlp", "OTEL_TRACES_EXPORTER", "otlp or none");
  const protocolName: TraceVariable = read("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
    ? "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
    : "OTEL_EXPORTER_OTLP_PROTOCOL";
  const isProtobuf = (read(protocolName) ?? "http/protobuf") === "http/protobuf";
  expect(
    isProtobuf,
    protocolName,
    "http/protobuf, the only protocol that sessiond sends traces by",
  );
  const samplerName = read("OTEL_TRACES_SAMPLER") ?? "parentbased_always_on";
  const sampler = TRACE_SAMPLERS.find((name) => name === samplerName);
  const samplers = new Intl.ListFormat("en", { type: "disjunction" }).format(TRACE_SAMPLERS);
  expect(sampler !== undefined, "OTEL_TRACES_SAMPLER", samplers);
  const ratio = Number(read("OTEL_TRACES_SAMPLER_ARG") ?? "1");
  expect(ratio >= 0 && ratio <= 1, "OTEL_TRACES_SAMPLER_ARG", "a number from 0 to 1");
  if (faults.length > 0 || sampler === undefined) return { traces: undefined, faults };
  return { traces: { sampler, ratio }, faults };
}
