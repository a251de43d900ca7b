import { globSync, readFileSync } from "node:fs";
import { dirname } from "node:path";

/** What we read of a package.json. */
export interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly private?: boolean;
  /** Of the repository's root: `pnpm@12.21.0`. */
  readonly packageManager?: string;
  /** Undefined for what nobody imports. */
  readonly exports?: unknown;
  readonly bundleDependencies?: boolean;
  readonly dependencies?: Readonly<Record<string, string>>;
}

/** A package of this repository. */
export interface Package extends Manifest {
  /** Relative to the root of the repository. */
  readonly folder: string;
}

/** All packages in `packages` and `apps` of a repository. Those that are not private are published. */
export function readPackages(root = "."): readonly Package[] {
  return globSync("{packages,apps}/*/package.json", { cwd: root })
    .sort()
    .map((path) => ({ ...readManifest(`${root}/${path}`), folder: dirname(path) }));
}

export function readManifest(path: string): Manifest {
  return JSON.parse(readFileSync(path, "utf8")) as Manifest;
}

/** The one version of all packages. Throws an Error that names those which differ. */
export function versionOf(packages: readonly Package[]): string {
  const versions = new Set(packages.map(({ version }) => version));
  const [version = "", ...others] = versions;
  if (others.length === 0) return version;
  const each = packages.map((one) => `  ${one.version}  ${one.folder}`);
  throw new Error(`expected one version in all packages, found\n${each.join("\n")}`);
}
