import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Sessiond } from "./sessiond.js";

const EXAMPLES = fileURLToPath(new URL("../../../../examples/", import.meta.url));

/** One of the examples, as its own command starts it. */
export interface ExampleProcess extends AsyncDisposable {
  /** Its address, such as `http://localhost:3000`. */
  readonly url: string;
}

/** What starts an example differently from its command. */
export interface ExampleOptions {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * Starts the example of a folder on a free port. Returns once it listens. Throws an Error with what
 * it printed if it does not.
 */
export async function startExample(
  folder: string,
  { baseUrl, token }: Sessiond,
  { args = [], env = {} }: ExampleOptions = {},
): Promise<ExampleProcess> {
  const access = { SESSIOND_URL: baseUrl, SESSIOND_TOKEN: token, PORT: "0" };
  const child = spawn(process.execPath, [`${EXAMPLES}${folder}/src/main.ts`, ...args], {
    env: { PATH: process.env["PATH"], ...access, ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const killOnExit = () => child.kill("SIGKILL");
  process.once("exit", killOnExit);
  const ended = once(child, "exit").then(() => process.off("exit", killOnExit));
  const printed = once(child.stdout.setEncoding("utf8"), "data");
  const [said = ""] = await Promise.race([printed, ended.then(() => [])]);
  const [url] = /http:\S+/.exec(String(said)) ?? [];
  if (url === undefined) throw new Error(`${folder} did not start: ${said}`);
  return {
    url,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}
