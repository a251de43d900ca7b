import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { useConsoleBrowser } from "../../testing/console-browser.js";
import { spawnServer } from "../../testing/server-process.js";

vi.setConfig({ testTimeout: 120_000 });

const browser = useConsoleBrowser();

test("the link that a development server prints logs in, unless the console is off", async () => {
  const cwd = await mkdtemp(join(tmpdir(), "sessiond-console-"));
  const flags = ["--dev", "--store", "sqlite::memory:"];
  {
    await using server = await spawnServer({ flags, cwd, outputTimeoutMs: 60_000 });
    await server.printed(/\/console#token=\S+\n/);
    const [link = ""] = /http:\S+\/console#token=\S+/.exec(server.stdout) ?? [];
    const page = await browser.open(link);
    await page.getByText("There is no session yet").waitFor();
    expect(page.url()).toBe(`${server.httpUrl}/console`);
  }
  const off = [...flags, "--console=false"];
  await using server = await spawnServer({ flags: off, cwd, outputTimeoutMs: 60_000 });
  await server.printed(/# grpcurl/);
  expect(server.stdout).not.toContain("/console");
  expect((await fetch(`${server.httpUrl}/console`)).status).toBe(404);
  await rm(cwd, { recursive: true });
});
