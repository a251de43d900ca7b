// Builds, tests and packs all packages as the last commit has them, into packed/. Publishes nothing.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { readArguments } from "./arguments.ts";
import { hasSection } from "./changelog.ts";
import { readManifest, readPackages, versionOf } from "./packages.ts";

readArguments(`Usage: pnpm release

Builds, checks, tests and packs all packages as the last commit has them, into
packed/VERSION. Publishes nothing. docs/versions.md says what comes before and
after.`);

const faults = faultsOfTree();
if (faults.length > 0) {
  console.error(["Not released:", ...faults].join("\n  "));
  process.exit(1);
}
const version = versionOf(readPackages());
const { packageManager = "pnpm" } = readManifest("package.json");
const destination = resolve("packed", version);
// A clone has nothing that no commit has, such as files of an earlier build.
const clone = mkdtempSync(join(tmpdir(), "sessiond-release-"));
try {
  execFileSync("git", ["clone", "--quiet", ".", clone]);
  const options = { cwd: clone, stdio: "inherit" } as const;
  // The README's command: it installs, builds, checks and tests.
  execFileSync("npx", ["--yes", packageManager, "test"], options);
  rmSync(destination, { recursive: true, force: true });
  const pack = ["exec", "node", "scripts/release/pack.ts", "--all", destination];
  const printed = execFileSync("npx", ["--yes", packageManager, ...pack], {
    ...options,
    stdio: ["ignore", "pipe", "inherit"],
    encoding: "utf8",
  });
  for (const file of printed.trim().split("\n")) console.log(describe(file));
  console.log(`Nothing is published. The tag of this release: git tag v${version}`);
} catch (error) {
  console.error(`Not released: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
} finally {
  rmSync(clone, { recursive: true });
}

/** Why the tree cannot be released. */
function faultsOfTree(): readonly string[] {
  const git = (...args: readonly string[]) =>
    execFileSync("git", args, { encoding: "utf8" }).trim();
  const found: string[] = [];
  const changes = git("status", "--porcelain");
  if (changes !== "") found.push(`these changes are in no commit:\n${changes}`);
  try {
    const next = versionOf(readPackages());
    if (git("tag", "--list", `v${next}`) !== "") found.push(`v${next} has a tag already`);
    if (!hasSection(readFileSync("CHANGELOG.md", "utf8"), next)) {
      found.push(`CHANGELOG.md has no section for ${next}: pnpm release:version ${next}`);
    }
  } catch (error) {
    found.push(error instanceof Error ? error.message : String(error));
  }
  return found;
}

/** A packed file's name, size and hash. */
function describe(file: string): string {
  const bytes = readFileSync(file);
  const hash = createHash("sha256").update(bytes).digest("hex");
  return `${basename(file).padEnd(40)} ${String(bytes.length).padStart(9)} bytes  sha256 ${hash}`;
}
