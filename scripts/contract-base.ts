import { spawnSync } from "node:child_process";

/** Of a pull request's clone, and of a repository that was never pushed. */
const MAIN = ["origin/main", "main"];

/**
 * The commit whose contract the one in this folder must be compatible with: where
 * HEAD left main, or, for a commit of main itself, the one before it. Undefined
 * where there is none, as in a shallow clone or outside of git.
 */
export function contractBase(folder: string): string | undefined {
  const git = (...args: string[]) => {
    const { status, stdout } = spawnSync("git", args, { cwd: folder, encoding: "utf8" });
    return status === 0 ? stdout.trim() : undefined;
  };
  const commitOf = (name: string) => git("rev-parse", "--verify", "--quiet", `${name}^{commit}`);
  const head = commitOf("HEAD");
  const main = MAIN.map(commitOf).find((commit) => commit !== undefined);
  if (head === undefined || main === undefined) return undefined;
  // A shallow clone may have both ends, and not where they part.
  const base = git("merge-base", head, main) ?? main;
  return base === head ? commitOf("HEAD^1") : base;
}
