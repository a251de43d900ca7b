// Makes sure that the tests find a redis-server that is new enough: uses the one on the PATH, or
// installs Debian's if it can do so without a question.
import { spawnSync } from "node:child_process";
import { canInstall, install } from "./apt.ts";

const MIN_MAJOR = 7;
const NEEDED = `The tests need redis-server ${MIN_MAJOR} or newer on the PATH`;

if (output("redis-server", "--version") === undefined && canInstall()) {
  console.log("redis-server is missing; installing Debian's");
  install(["redis-server"]);
}
const said = output("redis-server", "--version");
if (said === undefined) {
  fail(`${NEEDED}. To install it:
  Debian, Ubuntu  sudo apt-get install redis-server
  Fedora          sudo dnf install redis
  macOS           brew install redis`);
}
const version = versionIn(said);
if (version === undefined || Number.parseInt(version, 10) < MIN_MAJOR) {
  fail(`${NEEDED}; the one there is ${version ?? `of no known version: ${said.trim()}`}. To get a newer one:
  Debian, Ubuntu  Debian 12 and Ubuntu 24.04 have it; for older ones see https://redis.io/docs/latest/operate/oss_and_stack/install/
  Fedora          sudo dnf upgrade redis
  macOS           brew upgrade redis`);
}

/** Parses "Redis server v=7.0.15 sha=…" and "Valkey server v=8.0.1 sha=…". */
function versionIn(text: string): string | undefined {
  return /\bv=(\d+(?:\.\d+)*)/.exec(text)?.[1];
}

/** The command's output, or undefined if it fails. */
function output(command: string, ...args: string[]): string | undefined {
  const { status, stdout } = spawnSync(command, args, { encoding: "utf8" });
  return status === 0 ? stdout : undefined;
}

function fail(message: string): never {
  console.error(message);
  process.exit(1);
}
