import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { METRICS } from "../observability/metric-table.js";
import { dashboardQueries, inRepository, selectorsIn } from "../testing/instruments.js";
import { type AlertingRule, type Prometheus, startPrometheus } from "../testing/prometheus.js";
import { scrape } from "../testing/scrape.js";
import { useTestServer } from "../testing/test-server.js";

const RULES = inRepository("deploy/prometheus/alerts.yml");
const server = useTestServer();
let prometheus: Prometheus;
let rules: readonly AlertingRule[];

beforeAll(async () => {
  prometheus = await startPrometheus({ rules: await readFile(RULES, "utf8") });
  rules = await prometheus.rules();
});
afterAll(() => prometheus?.[Symbol.asyncDispose]());

test.each([
  ["check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"],
  ["check", "config", "prometheus.yml"],
  ["test", "rules", "alerts.test.yml"],
])("promtool %s %s is content", (...args) => {
  const cwd = inRepository("deploy/prometheus");
  const { status, stdout, stderr } = spawnSync("promtool", args, { cwd, encoding: "utf8" });
  expect(status, `${stdout}${stderr}`).toBe(0);
});

test("every alert says how bad it is, what it is about, and where its runbook is", async () => {
  const operations = await readFile(inRepository("docs/operations.md"), "utf8");
  const headings = [...operations.matchAll(/^### (\w+)$/gm)].map(([, heading]) => heading);
  const tested = await readFile(inRepository("deploy/prometheus/alerts.test.yml"), "utf8");
  expect(rules.length).toBeGreaterThan(10);
  for (const { name, labels, annotations } of rules) {
    expect(labels["severity"], name).toMatch(/^(critical|warning)$/);
    expect(annotations["summary"], name).toMatch(/^[A-Z{s].+[^.]$/);
    expect(annotations["description"], name).toMatch(/.+\.$/);
    expect(annotations["runbook_url"]).toBe(`docs/operations.md#${name.toLowerCase()}`);
    expect(headings).toContain(name);
    expect(tested).toContain(`alertname="${name}"`);
  }
});

test("alerts and dashboard use metrics that there are", async () => {
  const { samples } = await scrape(server.httpUrl);
  const known = new Set(["up", ...Object.keys(METRICS), ...samples.map(({ name }) => name)]);
  const queries = [
    ...rules.map(({ query }) => query),
    ...(await dashboardQueries("1m")).map(({ promql }) => promql),
  ];
  const used = queries.flatMap(selectorsIn).map((selector) => /^[\w:]+/.exec(selector)?.[0] ?? "");
  expect(used.length).toBeGreaterThan(queries.length);
  const unknown = used.filter(
    (name) => !known.has(name) && !known.has(name.replace(/_(bucket|sum|count)$/, "")),
  );
  expect(unknown).toEqual([]);
});
