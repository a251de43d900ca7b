import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Which temporary files, and how many processes more than before, there are once `run` is over. */
export async function leftoversOf(run: () => Promise<void>) {
  const dir = await mkdtemp(join(tmpdir(), "sessiond-"));
  const { TMPDIR } = process.env;
  process.env["TMPDIR"] = dir;
  const before = countChildren();
  try {
    await run();
    return { files: await readdir(dir), processes: countChildren() - before };
  } finally {
    if (TMPDIR === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = TMPDIR;
    await rm(dir, { recursive: true });
  }
}

function countChildren(): number {
  return process.getActiveResourcesInfo().filter((name) => name === "ProcessWrap").length;
}
