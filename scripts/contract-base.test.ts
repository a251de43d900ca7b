import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { contractBase } from "./contract-base.ts";

let directory: string;
/** The repository that others clone, with two commits on main. */
let origin: string;
let first: string;
let second: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sessiond-base-"));
  origin = join(directory, "origin");
  git(directory, "init", "--quiet", "--initial-branch=main", origin);
  first = commit(origin);
  second = commit(origin);
});
afterEach(() => rm(directory, { recursive: true }));

function git(cwd: string, ...args: string[]): string {
  const identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"];
  return execFileSync("git", [...identity, ...args], { cwd, encoding: "utf8" }).trim();
}

let commits = 0;

/** Commits that say the same within a second are the same. */
function commit(folder: string): string {
  git(folder, "commit", "--quiet", "--allow-empty", "--message", `change ${commits++}`);
  return git(folder, "rev-parse", "HEAD");
}

function clone(...args: string[]): string {
  const folder = join(directory, "clone");
  // Of a plain path, git ignores how deep it is to clone.
  git(directory, "clone", "--quiet", ...args, pathToFileURL(origin).href, folder);
  return folder;
}

describe("the contract is compared", () => {
  test("on main with the commit before, or a breaking one would be compared with itself", () => {
    expect(contractBase(clone())).toBe(first);
    expect(contractBase(origin)).toBe(first);
  });

  test("on a main that is not pushed with what was", () => {
    const folder = clone();
    commit(folder);
    commit(folder);
    expect(contractBase(folder)).toBe(second);
  });

  test("on a branch with where it left main, whatever main has got since", () => {
    git(origin, "switch", "--quiet", "--create", "branch");
    commit(origin);
    commit(origin);
    git(origin, "switch", "--quiet", "main");
    commit(origin);
    const folder = clone("--branch", "branch");
    expect(() => git(folder, "rev-parse", "--verify", "--quiet", "main")).toThrow();
    expect(contractBase(folder)).toBe(second);
  });

  test("in a shallow clone of a branch with main, if it is there", () => {
    git(origin, "switch", "--quiet", "--create", "branch");
    commit(origin);
    const folder = clone("--depth=1", "--no-single-branch");
    expect(contractBase(folder)).toBe(second);
  });

  test("with nothing where there is nothing", () => {
    expect(contractBase(clone("--depth=1"))).toBeUndefined();
    expect(contractBase(directory)).toBeUndefined();
  });
});
