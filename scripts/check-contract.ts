// Checks the contract: lint, compatibility with main, and that the checked-in
// stubs are what the .proto files generate.
import { execFileSync, spawnSync } from "node:child_process";
import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const STUBS = "packages/proto/src";

buf("lint");
if (hasContractOnMain()) buf("breaking", "--against", ".git#branch=main");
checkStubs();

function buf(...args: string[]): void {
  const { status } = spawnSync("buf", args, { stdio: "inherit" });
  if (status !== 0) fail(`buf ${args[0]} found the faults above`);
}

/** A checkout may lack the branch, as a shallow one of another branch does. */
function hasContractOnMain(): boolean {
  return spawnSync("git", ["cat-file", "-e", "main:proto"], { stdio: "ignore" }).status === 0;
}

function checkStubs(): void {
  const output = mkdtempSync(join(tmpdir(), "sessiond-stubs-"));
  try {
    execFileSync("buf", ["generate", "--output", output], { stdio: "inherit" });
    const expected = stubsIn(join(output, STUBS));
    const actual = stubsIn(STUBS);
    const differing = [...new Set([...expected.keys(), ...actual.keys()])].filter(
      (path) => expected.get(path) !== actual.get(path),
    );
    if (differing.length > 0) {
      fail(`${STUBS} is not what the contract generates (run: pnpm generate): ${differing}`);
    }
  } finally {
    rmSync(output, { recursive: true });
  }
}

function stubsIn(folder: string): Map<string, string> {
  const paths = globSync("**/*.ts", { cwd: folder });
  return new Map(paths.map((path) => [path, readFileSync(join(folder, path), "utf8")]));
}

function fail(message: string): never {
  console.error(message);
  process.exit(1);
}
