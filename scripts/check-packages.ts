// Checks the packages: they have one version, and the published ones are right in their contents
// (publint) and in how their types resolve (attw).
import { spawnSync } from "node:child_process";
import { readPackages, versionOf } from "./release/packages.ts";

const packages = readPackages();
try {
  versionOf(packages);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}
for (const { folder, exports } of packages.filter((one) => !one.private)) {
  run("publint", ["--strict", folder]);
  if (exports === undefined) continue;
  run("attw", ["--pack", folder, "--profile", "esm-only", "--format", "ascii", "--no-emoji"]);
}

function run(command: string, args: readonly string[]): void {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: "utf8" });
  if (status === 0) return;
  console.error(`${command} ${args.join(" ")}\n${stdout}${stderr}`);
  process.exit(1);
}
