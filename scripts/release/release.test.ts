import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A server.\n";

/** A small repository in the shape of this one. */
async function repository() {
  const { path: root, ...disposable } = await mkdtempDisposable(join(tmpdir(), "sessiond-"));
  const files = {
    "CHANGELOG.md": CHANGELOG,
    "packages/a/package.json": '{ "name": "a", "version": "0.1.0" }',
    "apps/b/package.json": '{ "name": "b", "version": "0.1.0" }',
    "deploy/kubernetes/kustomization.yaml": "newTag: 0.1.0\n",
  };
  const write = (name: string, text: string) => {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  };
  for (const [name, text] of Object.entries(files)) write(name, text);
  const git = (...args: readonly string[]) => execFileSync("git", args, { cwd: root });
  git("init", "--quiet");
  git("config", "user.email", "test@example.com");
  git("config", "user.name", "test");
  const run = (script: string, ...args: readonly string[]) => {
    const file = fileURLToPath(new URL(script, import.meta.url));
    const options = { cwd: root, encoding: "utf8" } as const;
    const { status, stdout, stderr } = spawnSync(process.execPath, [file, ...args], options);
    return { status, stdout, stderr };
  };
  return {
    ...disposable,
    write,
    run,
    read: (name: string) => readFileSync(join(root, name), "utf8"),
    commit: () => {
      git("add", "--all");
      git("commit", "--quiet", "--message", "all");
    },
  };
}

test("a release is refused with every reason: changes in no commit, other versions, nothing to tell", async () => {
  await using repo = await repository();
  repo.commit();
  expect(repo.run("release.ts").stderr).toContain("CHANGELOG.md has no section for 0.1.0");
  repo.write("apps/b/package.json", '{ "name": "b", "version": "0.2.0" }');
  const { status, stderr } = repo.run("release.ts");
  expect(status).toBe(1);
  expect(stderr).toContain("M apps/b/package.json");
  expect(stderr).toMatch(
    /expected one version .*\n {2}0\.2\.0 {2}apps\/b\n {2}0\.1\.0 {2}packages\/a/,
  );
});

test("a new version is in every package, in the changelog, and in the name of the image", async () => {
  await using repo = await repository();
  expect(repo.run("set-version.ts", "v2").status).toBe(1);
  expect(repo.run("set-version.ts", "0.2.0")).toEqual({ status: 0, stdout: "", stderr: "" });
  for (const name of ["packages/a", "apps/b"]) {
    expect(JSON.parse(repo.read(`${name}/package.json`))).toMatchObject({ version: "0.2.0" });
  }
  expect(repo.read("deploy/kubernetes/kustomization.yaml")).toBe("newTag: 0.2.0\n");
  expect(repo.read("CHANGELOG.md")).toMatch(
    /^# Changelog\n\n## \[Unreleased\]\n\n## \[0\.2\.0\] - \d{4}-\d\d-\d\d\n\n### Added\n\n- A server\.\n$/,
  );
  // What has no changes has no release.
  expect(repo.run("set-version.ts", "0.3.0").stderr).toContain("expected changes");
});

test("a script that is asked for help, or has an unknown argument, releases and changes nothing", async () => {
  await using repo = await repository();
  for (const script of ["release.ts", "set-version.ts", "pack.ts"]) {
    const help = repo.run(script, "--help");
    expect(help).toMatchObject({
      status: 0,
      stdout: expect.stringContaining("Usage: pnpm "),
      stderr: "",
    });
    const { status, stderr } = repo.run(script, "--nonsense");
    expect({ status, stderr }).toEqual({ status: 2, stderr: help.stdout });
  }
  expect(repo.read("CHANGELOG.md")).toBe(CHANGELOG);
});
