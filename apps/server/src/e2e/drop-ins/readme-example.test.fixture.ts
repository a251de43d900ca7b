import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import type { TestServer } from "../../testing/test-server.js";
import { Browser } from "./browser.test.fixture.js";

/** The folder of this repository. */
export const repository: string = fileURLToPath(new URL("../../../../..", import.meta.url));

/** Runs the first example of a package's README in a project. Answers a browser on its port 3000. */
export function runExample(
  folder: string,
  server: TestServer,
  project = `${repository}/apps/server`,
): Promise<Browser> {
  const readme = readFileSync(`${repository}/packages/${folder}/README.md`, "utf8");
  return runProgram(/```ts\n(.*?)```/s.exec(readme)?.[1] ?? "", server, project);
}

/** Runs the application of the repository's README in a project, as `runExample` does. */
export function runTenLines(server: TestServer, project: string): Promise<Browser> {
  const readme = readFileSync(`${repository}/README.md`, "utf8");
  return runProgram(/```js\n(.*?)```/s.exec(readme)?.[1] ?? "", server, project);
}

async function runProgram(example: string, server: TestServer, project: string): Promise<Browser> {
  const printPort = "listen(0, '127.0.0.1', function () { console.log(this.address().port); })";
  const code = example
    .replace("http://127.0.0.1:50051", server.grpcUrl)
    .replace("listen(3000)", printPort);
  const args = ["--input-type=module-typescript", "--eval", code];
  const child = spawn(process.execPath, args, {
    cwd: project,
    env: { SESSIOND_TOKEN: server.accessToken },
    stdio: ["ignore", "pipe", "inherit"],
    timeout: 60_000,
  });
  onTestFinished(() => void child.kill());
  const [port] = await once(child.stdout.setEncoding("utf8"), "data");
  return new Browser(`http://127.0.0.1:${String(port).trim()}`);
}
