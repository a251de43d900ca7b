import { expect, test } from "vitest";
import { spawnSessiond } from "./testing/server-process.js";

/** The environment of a process that takes its Node for this version. */
function asNode(version: string): { readonly NODE_OPTIONS: string } {
  const versions = `{ ...process.versions, node: ${JSON.stringify(version)} }`;
  const code = `Object.defineProperty(process, "versions", { value: ${versions} })`;
  return { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(code)}` };
}

test.each(["22.22.0", "20.20.2", "9.11.2"])("Node %s is refused in one line", async (version) => {
  await using sessiond = spawnSessiond(["serve"], { env: asNode(version) });
  expect(await sessiond.ended).toBe(1);
  expect(sessiond.stderr).toBe(`sessiond needs Node.js 24 or newer; this is ${version}\n`);
  expect(sessiond.stdout).toBe("");
});

test.each(["24.0.0", "100.0.0"])("Node %s is accepted", async (version) => {
  await using sessiond = spawnSessiond(["--version"], { env: asNode(version) });
  expect(await sessiond.ended).toBe(0);
  expect(sessiond.stdout).toMatch(/^sessiond \d/);
});
