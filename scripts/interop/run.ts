// Runs clients of other languages against one server. A client has nothing of ours but the stubs
// that its `run.sh` generates from the .proto files. Tools and libraries are Debian's.
import { deepStrictEqual } from "node:assert";
import { execFile, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { TestAuthority } from "../../packages/core/dist/testing/network/test-authority.js";
import { canInstall, install } from "../apt.ts";
import { CHECKS, FIELD_CHECKS, TLS_CHECKS } from "./checks.ts";
import { type Server, startServer } from "./server.ts";

/** On a slow machine it takes minutes to compile the stubs for C++, or gRPC for Go in the first run. */
const CLIENT_TIMEOUT_SECONDS = 600;

/** Beyond 2^31 ms, where timers of Node end at once. */
const FAR_SECONDS = 3_000_000;

const LANGUAGES = ["python", "go", "ruby", "cpp", "java"];

const named = process.argv.slice(2);
const unknown = named.filter((language) => !LANGUAGES.includes(language));
if (unknown.length > 0) fail(`no client in ${unknown}; expected ${LANGUAGES.join(", ")}`);
const languages = named.length > 0 ? named : LANGUAGES;
if (canInstall()) installFor(languages);

const runnable = languages.filter((language) => missingPackages(language).length === 0);
console.log(`runs ${runnable.join(", ") || "nothing"}`);
const notRun = languages.filter((language) => !runnable.includes(language));
if (notRun.length > 0) {
  const commands = notRun.map(
    (name) => `${name}: apt-get install ${missingPackages(name).join(" ")}`,
  );
  console.error(["does not run, before root has installed:", ...commands].join("\n  "));
}
// A language that was asked for must run. Without names, what is installed is enough.
if (runnable.length === 0 || (named.length > 0 && notRun.length > 0)) process.exit(1);

const work = mkdtempSync(join(tmpdir(), "sessiond-interop-"));
process.once("exit", () => rmSync(work, { recursive: true, force: true }));
process.once("SIGINT", () => process.exit(130));

using server = await startServer(join(work, "data"));
using authority = new TestAuthority();
const [own, client] = [authority.issue(), authority.issue({ name: "python" })];
// The same data directory, so that the same access token is good for both.
using tlsServer = await startServer(join(work, "data"), [
  ...["--tls-cert", own.cert, "--tls-key", own.key, "--tls-client-ca", authority.ca],
]);
const tlsEnvironment = {
  // grpcio checks the name, and knows no IP addresses.
  TLS_ADDRESS: tlsServer.grpcAddress.replace("127.0.0.1", "localhost"),
  TLS_CA: authority.ca,
  TLS_CLIENT_CERT: client.cert,
  TLS_CLIENT_KEY: client.key,
};
const failed: string[] = [];
for (const language of runnable) {
  if (!(await passes(language, server))) failed.push(language);
}
if (failed.length > 0) fail(`failed: ${failed.join(", ")}`);

function installFor(languages: readonly string[]): void {
  const missing = [...new Set(languages.flatMap(missingPackages))];
  if (missing.length === 0) return;
  console.log(`installing Debian's ${missing.join(" ")}`);
  install(missing);
}

function missingPackages(language: string): readonly string[] {
  const packages = neededPackages(language);
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query fills it in
  const format = "--showformat=${db:Status-Status} ${Package}\n";
  // For a package that nobody ever installed it prints nothing, and exits with 1.
  const { error, stdout } = spawnSync("dpkg-query", ["--show", format, ...packages], {
    encoding: "utf8",
  });
  if (error !== undefined) fail("expected Debian or Ubuntu, but there is no dpkg-query");
  const installed = stdout.split("\n");
  return packages.filter((name) => !installed.includes(`installed ${name}`));
}

/** Reads the script's comments `# apt-get install …`. */
function neededPackages(language: string): readonly string[] {
  const script = readFileSync(scriptOf(language), "utf8");
  return [...script.matchAll(/^# apt-get install (.+)$/gm)].flatMap(([, names = ""]) =>
    names.split(" "),
  );
}

function scriptOf(language: string): string {
  return resolve("scripts/interop", language, "run.sh");
}

/** Builds and runs the clients in an empty folder, and compares what they print. */
async function passes(language: string, { grpcAddress, token }: Server): Promise<boolean> {
  const cwd = join(work, language);
  mkdirSync(cwd);
  symlinkSync(resolve("proto"), join(cwd, "proto"));
  const env = {
    ...process.env,
    ADDRESS: grpcAddress,
    TOKEN: token,
    FAR_SECONDS: `${FAR_SECONDS}`,
    ...tlsEnvironment,
  };
  const checks = language === "python" ? [...CHECKS, ...FIELD_CHECKS, ...TLS_CHECKS] : CHECKS;
  const started = performance.now();
  try {
    // Unlike Node's own timeout, this one also ends what the script has started.
    const command = [`${CLIENT_TIMEOUT_SECONDS}`, scriptOf(language)];
    const { stdout } = await promisify(execFile)("timeout", command, { cwd, env });
    deepStrictEqual(stdout.trimEnd().split("\n"), checks);
  } catch (error) {
    console.error(`${language}: ${error}`);
    return false;
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log([`${language}, ${seconds} s`, ...checks].join("\n  "));
  return true;
}

function fail(message: string): never {
  console.error(message);
  process.exit(1);
}
