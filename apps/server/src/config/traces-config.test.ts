import { describe, expect, test } from "vitest";
import { readTracesConfig } from "./traces-config.js";

const ENDPOINT = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:4318" };

test("an endpoint turns traces on, and every trace is recorded unless its caller does not", () => {
  const traces = { sampler: "parentbased_always_on", ratio: 1 };
  expect(readTracesConfig(ENDPOINT)).toEqual({ traces, faults: [] });
  const ofTraces = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "https://collector.example/v1/traces" };
  expect(readTracesConfig(ofTraces)).toEqual({ traces, faults: [] });
});

test("the sampler records a share of the traces", () => {
  const sampler = "parentbased_traceidratio";
  const env = { ...ENDPOINT, OTEL_TRACES_SAMPLER: sampler, OTEL_TRACES_SAMPLER_ARG: "0.01" };
  expect(readTracesConfig(env)).toEqual({ traces: { sampler, ratio: 0.01 }, faults: [] });
});

describe("traces are off, and other variables of OpenTelemetry are no fault,", () => {
  const others = { OTEL_TRACES_SAMPLER: "jaeger_remote", OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" };
  test.each([
    ["without an endpoint", {}],
    ["with an empty endpoint", { OTEL_EXPORTER_OTLP_ENDPOINT: "" }],
    ["with a disabled SDK", { ...ENDPOINT, OTEL_SDK_DISABLED: "TRUE" }],
    ["without an exporter", { ...ENDPOINT, OTEL_TRACES_EXPORTER: "none" }],
  ])("%s", (_, env) => {
    expect(readTracesConfig({ ...others, ...env })).toEqual({ traces: undefined, faults: [] });
  });
});

test("every fault is named by its variable, and no value is repeated", () => {
  const { traces, faults } = readTracesConfig({
    OTEL_EXPORTER_OTLP_ENDPOINT: "user:canary@collector:4318",
    OTEL_EXPORTER_OTLP_PROTOCOL: "grpc",
    OTEL_TRACES_EXPORTER: "zipkin",
    OTEL_TRACES_SAMPLER: "sometimes",
    OTEL_TRACES_SAMPLER_ARG: "1 %",
  });
  expect(traces).toBeUndefined();
  expect(faults).toEqual([
    "OTEL_EXPORTER_OTLP_ENDPOINT: expected a URL of http or https",
    "OTEL_TRACES_EXPORTER: expected otlp or none",
    expect.stringMatching(/^OTEL_EXPORTER_OTLP_PROTOCOL: expected http\/protobuf/),
    expect.stringMatching(
      /^OTEL_TRACES_SAMPLER: expected parentbased_always_on, .* or traceidratio$/,
    ),
    "OTEL_TRACES_SAMPLER_ARG: expected a number from 0 to 1",
  ]);
});
