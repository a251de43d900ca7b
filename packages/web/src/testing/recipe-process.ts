import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { freePort } from "@sessiond/core/testing";
import type { Sessiond } from "./sessiond.js";

const RECIPES = fileURLToPath(new URL("../../../../examples/recipes", import.meta.url));
const LOOPBACK = "127.0.0.1";
const START_TIMEOUT_MS = 60_000;

/** A program of `examples/recipes`, in a process of its own. */
export interface RecipeProcess extends AsyncDisposable {
  /** Its address, such as `http://127.0.0.1:3000`. */
  readonly origin: string;
}

/** Starts a recipe that was built, such as `node/server.js`. Returns once it listens. */
export function startRecipe(file: string, sessiond: Sessiond): Promise<RecipeProcess> {
  return start([`dist/${file}`], RECIPES, sessiond);
}

/** Starts SvelteKit's recipe as `vite dev` does. Returns once it listens. */
export function startSvelteKit(sessiond: Sessiond): Promise<RecipeProcess> {
  const program = `
    import { createServer } from "vite";
    const server = { host: "${LOOPBACK}", port: Number(process.env.PORT), watch: null };
    await (await createServer({ server, logLevel: "warn" })).listen();
  `;
  const args = ["--input-type=module", "--eval", program];
  return start(args, `${RECIPES}/src/sveltekit`, sessiond);
}

async function start(
  args: readonly string[],
  cwd: string,
  { baseUrl, token }: Sessiond,
): Promise<RecipeProcess> {
  const port = await freePort();
  const access = { SESSIOND_URL: baseUrl, SESSIOND_TOKEN: token, PORT: String(port) };
  const child = spawn(process.execPath, args, {
    cwd,
    env: { PATH: process.env["PATH"], ...access },
    stdio: ["ignore", "ignore", "inherit"],
  });
  const killOnExit = () => child.kill("SIGKILL");
  process.once("exit", killOnExit);
  const ended = once(child, "exit").then(() => process.off("exit", killOnExit));
  const stop = async () => {
    child.kill("SIGKILL");
    await ended;
  };
  const deadlineMs = performance.now() + START_TIMEOUT_MS;
  while (!(await listens(port))) {
    if (child.exitCode !== null || performance.now() > deadlineMs) {
      await stop();
      throw new Error(`the recipe did not start: ${args[0]}`);
    }
    await setTimeout(50);
  }
  return { origin: `http://${LOOPBACK}:${port}`, [Symbol.asyncDispose]: stop };
}

async function listens(port: number): Promise<boolean> {
  const socket = connect(port, LOOPBACK);
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
