// Makes sure that the tests find the programs that they run: uses those on the PATH, or installs
// Debian's if it can do so without a question.
import { spawnSync } from "node:child_process";
import { canInstall, install } from "./apt.ts";

/** A program that tests run. */
interface Tool {
  /** Debian's package, which is also what we call it. */
  readonly name: string;
  /** Commands that print the version. The first that succeeds is used. */
  readonly commands: readonly (readonly [command: string, ...args: string[]])[];
  readonly minMajor: number;
  /** How to install it where there is no apt-get. */
  readonly elsewhere: string;
  /** Debian's package starts this service, which no test wants. */
  readonly service?: string;
}

const PYTHON = "import importlib.metadata as m; print('version', m.version('prometheus_client'))";
const TOOLS: readonly Tool[] = [
  {
    name: "redis-server",
    commands: [["redis-server", "--version"]],
    minMajor: 7,
    elsewhere: "dnf install redis, or brew install redis",
    service: "redis-server",
  },
  {
    name: "prometheus",
    commands: [["promtool", "--version"]],
    minMajor: 2,
    elsewhere: "brew install prometheus, or https://prometheus.io/download",
    service: "prometheus",
  },
  {
    name: "python3-prometheus-client",
    // Debian's Python has it, which need not be the first on the PATH.
    commands: ["python3", "/usr/bin/python3"].map((python) => [python, "-c", PYTHON] as const),
    minMajor: 0,
    elsewhere: "pip install prometheus-client",
  },
  {
    name: "openssl",
    commands: [["openssl", "version"]],
    minMajor: 1,
    elsewhere: "dnf install openssl, or brew install openssl",
  },
  {
    name: "jq",
    commands: [["jq", "--version"]],
    minMajor: 1,
    elsewhere: "dnf install jq, or brew install jq",
  },
  {
    name: "systemd",
    commands: [["systemd-analyze", "--version"]],
    // The first that checks the security of a unit without a running systemd.
    minMajor: 250,
    elsewhere: "dnf install systemd",
  },
  {
    name: "chromium",
    commands: ["chromium", "chromium-browser", "google-chrome"].map(
      (browser) => [browser, "--version"] as const,
    ),
    // The first whose fetch metadata the tests rely on is older by far.
    minMajor: 100,
    elsewhere: "dnf install chromium, or brew install chromium",
  },
];

const missing = TOOLS.filter((tool) => output(tool) === undefined);
if (missing.length > 0 && canInstall()) {
  const names = missing.map(({ name }) => name);
  console.log(`installing Debian's ${names.join(" and ")}, which the tests need`);
  install(names);
  const services = missing.flatMap(({ service }) => service ?? []);
  // Where there is no systemd, nothing has started.
  spawnSync("systemctl", ["disable", "--now", ...services]);
}
const faults = TOOLS.flatMap(faultOf);
if (faults.length > 0) {
  console.error(["The tests need these on the PATH:", ...faults].join("\n  "));
  process.exit(1);
}

/** What is wrong with a tool, and how to mend it. */
function faultOf(tool: Tool): string[] {
  const { name, minMajor, elsewhere } = tool;
  const said = output(tool);
  const version = said && versionIn(said);
  if (version && Number.parseInt(version, 10) >= minMajor) return [];
  const found = said === undefined ? "none" : (version ?? `no known version: ${said.trim()}`);
  return [`${name} ${minMajor} or newer, found ${found} (apt-get install ${name}; ${elsewhere})`];
}

/** Parses "Redis server v=7.0.15 sha=…", "jq-1.6", "systemd 252 (252.38-1~deb12u1)" and "Chromium 156.0.8078.108 …". */
function versionIn(text: string): string | undefined {
  return /\b(?:v=|version |OpenSSL |jq-|systemd |Chromium |Chrome )(\d+(?:\.\d+)*)/.exec(text)?.[1];
}

/** What the tool says its version is, or undefined if it is not here. */
function output({ commands }: Tool): string | undefined {
  for (const [command, ...args] of commands) {
    const { status, stdout } = spawnSync(command, args, { encoding: "utf8" });
    if (status === 0) return stdout;
  }
  return undefined;
}
