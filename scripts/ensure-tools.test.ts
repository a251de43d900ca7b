import { spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

const SCRIPT = fileURLToPath(new URL("ensure-tools.ts", import.meta.url));

/** All that is on the PATH. */
let bin: string;
beforeEach(async () => {
  bin = await mkdtemp(join(tmpdir(), "sessiond-bin-"));
  await provide("promtool", `echo "promtool, version 2.42.0+ds (branch: debian/sid)"`);
  await provide("python3", `echo "version 0.16.0"`);
  await provide("systemd-analyze", `echo "systemd 252 (252.38-1~deb12u1)"`);
  await provide("jq", `echo "jq-1.6"`);
  await provide("openssl", `echo "OpenSSL 3.0.17 1 Jul 2025"`);
  await provide("chromium", `echo "Chromium 156.0.8078.108 built on Debian GNU/Linux 12"`);
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

describe("the tests' need of programs", () => {
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
    ["no known version", "Redis server 2.2.12 (00000000:0)"],
  ])("is not met by a redis-server that is too old, %s, which it says", async (found, said) => {
    await provide("redis-server", `echo "${said}"`);
    const { status, stderr } = run();
    expect(status).toBe(1);
    expect(stderr).toContain(`redis-server 7 or newer, found ${found}`);
    expect(stderr).not.toContain("promtool");
  });

  test("is not met where one is missing, and says how to install each that is", async () => {
    await provide("promtool", "exit 1");
    const { status, stderr } = run();
    expect(status).toBe(1);
    expect(stderr).toContain("apt-get install redis-server");
    expect(stderr).toContain("apt-get install prometheus");
  });

  test.runIf(process.getuid?.() === 0)("looks at what apt-get installed, too", async () => {
    const old = `printf '#!/bin/sh\\necho "Redis server v=6.0.16 sha=0"\\n' > ${bin}/redis-server`;
    await provide(
      "apt-get",
      `if [ "$1" = install ]; then ${old}; /bin/chmod +x ${bin}/redis-server; fi`,
    );
    const { status, stderr } = run();
    expect(status).toBe(1);
    expect(stderr).toContain("found 6.0.16");
  });
});
