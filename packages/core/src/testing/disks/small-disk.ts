import { execFileSync } from "node:child_process";
import {
  closeSync,
  mkdtempSync,
  openSync,
  rmdirSync,
  rmSync,
  statfsSync,
  writeSync,
} from "node:fs";
import { mkdtemp, rmdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A file system of its own, to be filled. */
export interface SmallDisk extends AsyncDisposable {
  /** Where it is mounted. */
  readonly path: string;
  /** Takes all room. Again, if something has become free. */
  fill(): void;
  /** Gives `fill`'s room back. */
  free(): void;
}

/** Why a test that needs a small disk cannot run here: a user, or a container, may not mount one. */
export function smallDiskObstacle(): string | undefined {
  const path = mkdtempSync(join(tmpdir(), "sessiond-disk-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", path], { stdio: "ignore" });
    execFileSync("umount", [path], { stdio: "ignore" });
    return undefined;
  } catch {
    return "cannot mount a small disk: needs root on Linux";
  } finally {
    rmdirSync(path);
  }
}

/** Mounts a disk of this size. Needs root on Linux. */
export async function mountSmallDisk(sizeBytes: number): Promise<SmallDisk> {
  const path = await mkdtemp(join(tmpdir(), "sessiond-disk-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${sizeBytes}`, "tmpfs", path]);
  const ballast = join(path, "ballast");
  return {
    path,
    fill: () => fill(ballast, path),
    free: () => rmSync(ballast, { force: true }),
    async [Symbol.asyncDispose]() {
      execFileSync("umount", ["--lazy", path]);
      await rmdir(path);
    },
  };
}

function fill(ballast: string, path: string): void {
  const file = openSync(ballast, "a");
  const { bsize } = statfsSync(path);
  const block = new Uint8Array(bsize);
  try {
    while (statfsSync(path).bfree > 0) writeSync(file, block);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOSPC")) throw error;
  } finally {
    closeSync(file);
  }
}
