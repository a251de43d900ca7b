import { spawnSync } from "node:child_process";

/** The main branch in a pull request's clone, and in a repository without a remote. */
const MAIN = ["origin/main", "main"];

/**
 * The commit to compare this folder's contract with: the commit where HEAD left main or, on main
 * itself, HEAD's parent. Undefined if there is no such commit: in a shallow clone, or outside git.
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
  // A shallow clone may have both commits, but not their common ancestor.
  const base = git("merge-base", head, main) ?? main;
  return base === head ? commitOf("HEAD^1") : base;
}
