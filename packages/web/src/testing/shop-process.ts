import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Sessiond } from "./sessiond.js";

const MAIN = fileURLToPath(
  new URL("../../../../examples/express-shop/src/main.ts", import.meta.url),
);

/** The example shop, as its own command starts it. */
export interface ShopProcess extends AsyncDisposable {
  /** Its address, such as `http://localhost:3000`. */
  readonly url: string;
}

/** Returns once the shop is open. Throws an Error with what it printed if it does not open. */
export async function startShopProcess(
  { baseUrl, token }: Sessiond,
  env: Readonly<Record<string, string>> = {},
): Promise<ShopProcess> {
  const access = { SESSIOND_URL: baseUrl, SESSIOND_TOKEN: token, PORT: "0" };
  const child = spawn(process.execPath, [MAIN], {
    env: { PATH: process.env["PATH"], ...access, ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const killOnExit = () => child.kill("SIGKILL");
  process.once("exit", killOnExit);
  const ended = once(child, "exit").then(() => process.off("exit", killOnExit));
  const printed = once(child.stdout.setEncoding("utf8"), "data");
  const [said = ""] = await Promise.race([printed, ended.then(() => [])]);
  const [url] = /http:\S+/.exec(String(said)) ?? [];
  if (url === undefined) throw new Error(`the shop did not open: ${said}`);
  return {
    url,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}
