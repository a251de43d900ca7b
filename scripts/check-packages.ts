// Checks the published packages: their contents (publint) and how their types resolve (attw).
import { spawnSync } from "node:child_process";

const PUBLISHED = [
  "packages/proto",
  "packages/connect-grpc-js",
  "packages/client",
  "packages/web",
  "packages/express-session",
  "packages/better-auth",
];

for (const folder of PUBLISHED) {
  run("publint", ["--strict", folder]);
  run("attw", ["--pack", folder, "--profile", "esm-only", "--format", "ascii", "--no-emoji"]);
}

function run(command: string, args: readonly string[]): void {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: "utf8" });
  if (status === 0) return;
  console.error(`${command} ${args.join(" ")}\n${stdout}${stderr}`);
  process.exit(1);
}
