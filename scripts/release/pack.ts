// Packs the server, or with --all every package that is published, into a folder. Needs what
// `pnpm build` makes.
import { execFileSync } from "node:child_process";
import { copyFileSync, globSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { readArguments } from "./arguments.ts";
import { type Manifest, readManifest, readPackages } from "./packages.ts";

const USAGE = `Usage: pnpm pack:server [--all] [FOLDER]

Packs the server with all that it runs on into a folder, packed by default.

  --all  packs every package that is published`;

/** What no program reads: sources and types in TypeScript, and maps to them. */
const UNREAD = "node_modules/**/*.{ts,cts,mts,map,tsbuildinfo}";
/** What pnpm leaves behind for itself. */
const OF_PNPM = ["node_modules/.pnpm", "node_modules/.modules.yaml", "node_modules/.bin"];
/** Hoisted, as npm lays packages out: only such a folder can be packed. */
const LAYOUT = ["--config.nodeLinker=hoisted", "--config.injectWorkspacePackages=true"];

/** Packs every package that is published. Returns the files' paths. */
export function packAll(destination: string): readonly string[] {
  return readPackages()
    .filter((one) => !one.private)
    .map((one) =>
      one.bundleDependencies
        ? packBundle(one.name, one.folder, destination)
        : pnpmPack(one.folder, destination),
    );
}

/**
 * Packs a package with everything that it runs on, in the versions of pnpm-lock.yaml
 * (docs/adr/0026-the-server-brings-what-it-runs-on.md). Returns the file's path.
 */
export function packBundle(name: string, folder: string, destination: string): string {
  const stage = mkdtempSync(join(tmpdir(), "sessiond-pack-"));
  try {
    pnpm(".", ["--silent", "--filter", name, ...LAYOUT, "deploy", "--prod", stage]);
    const unread = globSync(UNREAD, { cwd: stage });
    for (const path of [...unread, ...OF_PNPM]) rmSync(join(stage, path), { recursive: true });
    const manifest = readManifest(`${folder}/package.json`);
    writeFileSync(join(stage, "package.json"), JSON.stringify(asPublished(manifest), null, 2));
    copyFileSync("LICENSE", join(stage, "LICENSE"));
    return pnpmPack(stage, destination, LAYOUT);
  } finally {
    rmSync(stage, { recursive: true });
  }
}

/** The manifest with our packages' version, and without what only this repository needs. */
function asPublished(manifest: Manifest): object {
  const dependencies = Object.entries(manifest.dependencies ?? {}).map(([name, range]) => [
    name,
    range.startsWith("workspace:") ? manifest.version : range,
  ]);
  const { scripts, devDependencies, ...rest } = manifest as Manifest & Record<string, unknown>;
  return { ...rest, dependencies: Object.fromEntries(dependencies) };
}

function pnpmPack(folder: string, destination: string, options: readonly string[] = []): string {
  const target = resolve(destination);
  mkdirSync(target, { recursive: true });
  const report = pnpm(folder, [...options, "pack", "--json", "--pack-destination", target]);
  return resolve(target, (JSON.parse(report) as { filename: string }).filename);
}

/** Runs pnpm in a folder, in the version that made this repository. Returns what it prints. */
function pnpm(cwd: string, args: readonly string[]): string {
  const { packageManager } = readManifest("package.json");
  const options = { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] } as const;
  return execFileSync("npx", ["--yes", packageManager ?? "pnpm", ...args], options);
}

if (import.meta.main) {
  const { names, isOn } = readArguments(USAGE, { mostNames: 1, flags: ["all"] });
  const [destination = "packed"] = names;
  const server = "apps/server";
  const files = isOn("all")
    ? packAll(destination)
    : [packBundle(readManifest(`${server}/package.json`).name, server, destination)];
  console.log(files.join("\n"));
}
