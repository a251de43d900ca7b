// Checks the contract: lint, compatibility with main, and that the checked-in stubs match the
// .proto files.
import { execFileSync, spawnSync } from "node:child_process";
import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { contractBase } from "./contract-base.ts";

const STUBS = "packages/proto/src";
/** Contracts from before this decision are not compared with any. */
const COMPATIBLE_SINCE = "docs/adr/0015-the-contract-starts-over-once.md";
const MAX_CONTRACT_BYTES = 16 * 1024 * 1024;

buf(["lint"]);
checkBreaking();
checkStubs();

function buf(args: readonly string[], input = Buffer.alloc(0)): void {
  const { status } = spawnSync("buf", args, { input, stdio: ["pipe", "inherit", "inherit"] });
  if (status !== 0) fail(`buf ${args[0]} found the faults above`);
}

function checkBreaking(): void {
  const base = contractBase(".");
  if (base === undefined) {
    console.error(
      "contract: NOT CHECKED for breaking changes, for git knows no earlier commit here",
    );
    return;
  }
  if (spawnSync("git", ["cat-file", "-e", `${base}:${COMPATIBLE_SINCE}`]).status !== 0) {
    console.error(`contract: not compared with ${base}, which is from before ${COMPATIBLE_SINCE}`);
    return;
  }
  // buf's own git input supports neither worktrees nor shallow clones.
  const contract = execFileSync("git", ["archive", base, "proto", "buf.yaml"], {
    maxBuffer: MAX_CONTRACT_BYTES,
  });
  buf(["breaking", "--against", "-#format=tar"], contract);
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
