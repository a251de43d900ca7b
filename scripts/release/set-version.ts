// Gives all packages one version, and the changelog a section for it: pnpm release:version 0.2.0
import { readFileSync, writeFileSync } from "node:fs";
import { readArguments } from "./arguments.ts";
import { hasSection, releaseSection } from "./changelog.ts";
import { readPackages } from "./packages.ts";

const CHANGELOG = "CHANGELOG.md";
const KUSTOMIZATION = "deploy/kubernetes/kustomization.yaml";
const USAGE = `Usage: pnpm release:version VERSION

Gives all packages the version, and moves what is unreleased in CHANGELOG.md into a
section for it. Commits nothing.`;
const [version = ""] = readArguments(USAGE, { mostNames: 1 }).names;
if (!/^\d+\.\d+\.\d+(-[a-z]+\.\d+)?$/.test(version)) {
  console.error("expected a version such as 0.2.0 or 1.0.0-beta.1: pnpm release:version VERSION");
  process.exit(1);
}

const changelog = readFileSync(CHANGELOG, "utf8");
if (!hasSection(changelog, version)) {
  const today = new Date().toISOString().slice(0, "2026-01-01".length);
  writeFileSync(CHANGELOG, releaseSection(changelog, version, today));
}
for (const { folder } of readPackages()) {
  replace(`${folder}/package.json`, /"version": "[^"]*"/, `"version": "${version}"`);
}
replace(KUSTOMIZATION, /newTag: .*/, `newTag: ${version}`);

function replace(path: string, pattern: RegExp, by: string): void {
  writeFileSync(path, readFileSync(path, "utf8").replace(pattern, by));
}
