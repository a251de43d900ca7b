import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "@sessiond/core/testing";
import { vi } from "vitest";
import type { Sample } from "./scrape.js";
import { temporaryDirectory } from "./temporary-directory.js";

const START_MS = 20_000;

/** What a Prometheus for tests does. */
export interface PrometheusOptions {
  /** The servers that the job "sessiond" scrapes each second: `127.0.0.1:port`. */
  readonly targets?: readonly string[];
  /** The content of a file of rules, which are evaluated each second. */
  readonly rules?: string;
}

/** An alert that fires, or one that will. */
export interface Alert {
  readonly state: "pending" | "firing";
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

/** A rule as Prometheus has read it. */
export interface AlertingRule {
  readonly name: string;
  readonly query: string;
  readonly health: "ok" | "err" | "unknown";
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

/** A real Prometheus on loopback, gone with its data when disposed of. */
export interface Prometheus extends AsyncDisposable {
  readonly url: string;
  /** The value of every series of this query now. Rejects if it is malformed. */
  query(promql: string): Promise<readonly Omit<Sample, "name">[]>;
  alerts(): Promise<readonly Alert[]>;
  rules(): Promise<readonly AlertingRule[]>;
}

/** Starts Debian's `prometheus` and waits until it answers. */
export async function startPrometheus(options: PrometheusOptions = {}): Promise<Prometheus> {
  await using opened = new AsyncDisposableStack();
  const { path } = opened.use(await temporaryDirectory());
  const address = `127.0.0.1:${await freePort()}`;
  const url = `http://${address}`;
  await writeFile(join(path, "rules.yml"), options.rules ?? "");
  // JSON is YAML.
  await writeFile(join(path, "prometheus.yml"), JSON.stringify(configOf(options)));
  const { failed } = opened.use(spawnPrometheus(path, address));
  const isReady = () =>
    fetch(`${url}/-/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
  await Promise.race([vi.waitUntil(isReady, { timeout: START_MS, interval: 100 }), failed]);
  const closing = opened.move();
  return {
    url,
    query: async (promql) => {
      const { result } = await ask(url, `query?query=${encodeURIComponent(promql)}`);
      const vector = result as { metric: Sample["labels"]; value: [number, string] }[];
      return vector.map(({ metric: labels, value: [, value] }) => ({
        labels,
        value: Number(value),
      }));
    },
    alerts: async () => (await ask(url, "alerts"))["alerts"] as Alert[],
    rules: async () => {
      const { groups } = await ask(url, "rules?type=alert");
      return (groups as { rules: AlertingRule[] }[]).flatMap(({ rules }) => rules);
    },
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}

/** Runs `prometheus` in a directory with its configuration. `failed` rejects when it has ended. */
function spawnPrometheus(path: string, address: string) {
  const args = [
    `--config.file=${join(path, "prometheus.yml")}`,
    `--storage.tsdb.path=${join(path, "data")}`,
    `--web.listen-address=${address}`,
    "--log.level=warn",
  ];
  const child = spawn("prometheus", args, { stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    log += text;
  });
  // Tests leave no process behind, even if they are broken off.
  const killOnExit = () => child.kill("SIGKILL");
  process.once("exit", killOnExit);
  const failed = once(child, "close").then(
    () => Promise.reject(new Error(`prometheus has ended:\n${log}`)),
    (cause) =>
      Promise.reject(new Error("needs prometheus: node scripts/ensure-tools.ts", { cause })),
  );
  return {
    failed,
    async [Symbol.asyncDispose](): Promise<void> {
      process.off("exit", killOnExit);
      child.kill("SIGKILL");
      await failed.catch(() => {});
    },
  };
}

function configOf({ targets = [] }: PrometheusOptions) {
  return {
    global: { scrape_interval: "1s", scrape_timeout: "1s", evaluation_interval: "1s" },
    rule_files: ["rules.yml"],
    scrape_configs: [{ job_name: "sessiond", static_configs: [{ targets }] }],
  };
}

async function ask(url: string, path: string): Promise<Readonly<Record<string, unknown>>> {
  const answer = await (await fetch(`${url}/api/v1/${path}`)).json();
  const { status, data, error } = answer as { status: string; data: object; error?: string };
  if (status !== "success") throw new Error(`${path}: ${error}`);
  return data as Readonly<Record<string, unknown>>;
}
