import { spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

const SCRIPT = fileURLToPath(new URL("ensure-redis-server.ts", import.meta.url));

/** All that is on the PATH. */
let bin: string;
beforeEach(async () => {
  bin = await mkdtemp(join(tmpdir(), "sessiond-bin-"));
});
afterEach(() => rm(bin, { recursive: true }));

async function provide(command: string, script: string): Promise<void> {
  await writeFile(join(bin, command), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
}

function run() {
  const env = { PATH: bin };
  const { status, stderr } = spawnSync(process.execPath, [SCRIPT], { env, encoding: "utf8" });
  return { status, stderr };
}

describe("the tests' need of a redis-server", () => {
  test.each([
    "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c971a948f0",
    "Redis server v=10.0 sha=00000000:0",
    "Valkey server v=8.0.1 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=0",
  ])("is met by %s", async (said) => {
    await provide("redis-server", `echo "${said}"`);
    expect(run()).toEqual({ status: 0, stderr: "" });
  });

  test.each([
    ["6.2.14", "Redis server v=6.2.14 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64 build=0"],
    ["of no known version", "Redis server version 2.2.12 (00000000:0)"],
  ])("is not met by one that is %s, which it says", async (found, said) => {
    await provide("redis-server", `echo "${said}"`);
    const { status, stderr } = run();
    expect(status).toBe(1);
    expect(stderr).toContain(`redis-server 7 or newer on the PATH; the one there is ${found}`);
    expect(stderr).toContain("To get a newer one:");
  });

  test("is not met where there is none, and says how to install one", () => {
    const { status, stderr } = run();
    expect(status).toBe(1);
    expect(stderr).toContain("sudo apt-get install redis-server");
  });

  test.runIf(process.getuid?.() === 0)("looks at what apt-get installed, too", async () => {
    const old = `printf '#!/bin/sh\\necho "Redis server v=6.0.16 sha=0"\\n' > ${bin}/redis-server`;
    await provide(
      "apt-get",
      `if [ "$1" = install ]; then ${old}; /bin/chmod +x ${bin}/redis-server; fi`,
    );
    const { status, stderr } = run();
    expect(status).toBe(1);
    expect(stderr).toContain("the one there is 6.0.16");
  });
});
