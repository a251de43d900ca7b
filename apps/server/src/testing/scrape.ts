import { execFile, spawnSync } from "node:child_process";
import { promisify } from "node:util";

const TEXT = "text/plain; version=0.0.4; charset=utf-8";

/** One line of an exposition. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Everything that one scrape told. */
export class Scrape {
  readonly samples: readonly Sample[];

  constructor(samples: readonly Sample[]) {
    this.samples = samples;
  }

  /** The sum of all samples of this name with these labels. Undefined if there are none. */
  sum(name: string, labels: Readonly<Record<string, string>> = {}): number | undefined {
    const found = this.samples.filter(
      (sample) =>
        sample.name === name &&
        Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
    );
    return found.length === 0 ? undefined : found.reduce((sum, { value }) => sum + value, 0);
  }
}

/** Scrapes a server, as a Prometheus that knows only the text format. */
export async function scrape(url: string): Promise<Scrape> {
  // A connection that is kept may be closed by the server just when it is used again.
  const headers = { accept: TEXT, connection: "close" };
  const response = await fetch(`${url}/metrics`, { headers });
  if (!response.ok) throw new Error(`the scrape was answered with ${response.status}`);
  const lines = (await response.text()).split("\n").filter((line) => /^[a-z]/.test(line));
  return new Scrape(lines.map(parseLine));
}

/** The lines of our own expositions, of which no label has a quote, a backslash or a line end. */
function parseLine(line: string): Sample {
  const [, name = "", labels = "", value = ""] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
  const pairs = [...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, label, text]) => [label, text]);
  return { name, labels: Object.fromEntries(pairs), value: Number(value) };
}

/** Reads an exposition by the official parsers of Python, and prints its samples. */
const PARSE = `
import json, sys
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics
parse = openmetrics if sys.argv[1] == "openmetrics" else parser
families = list(parse.text_string_to_metric_families(sys.stdin.read()))
print(json.dumps([[f.type, s.name, s.labels, s.value] for f in families for s in f.samples]))
`;

/** Debian's Python has prometheus_client, which need not be the first on the PATH. */
const PYTHONS = ["python3", "/usr/bin/python3"];
const python = PYTHONS.find((command) => {
  return spawnSync(command, ["-c", "import prometheus_client"]).status === 0;
});

/** Parses an exposition by the parsers of Python's prometheus_client. Rejects if it is malformed. */
export async function parseStrictly(
  format: "text" | "openmetrics",
  exposition: string,
): Promise<Scrape> {
  const options = { maxBuffer: 16 * 1024 * 1024 };
  if (python === undefined)
    throw new Error("needs prometheus_client: node scripts/ensure-tools.ts");
  const parsing = promisify(execFile)(python, ["-c", PARSE, format], options);
  parsing.child.stdin?.end(exposition);
  const samples = JSON.parse((await parsing).stdout) as [string, string, object, number][];
  return new Scrape(
    samples.map(([, name, labels, value]) => ({ name, labels: { ...labels }, value })),
  );
}
