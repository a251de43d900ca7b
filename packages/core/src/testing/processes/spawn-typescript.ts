import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

/** Lets Node run the sources as they are: it strips types, but takes imports of `./x.js` literally. */
const RESOLVE_SOURCES = `
  import { registerHooks } from "node:module";
  registerHooks({
    resolve: (specifier, context, next) =>
      next(specifier.startsWith(".") ? specifier.replace(/\\.js$/, ".ts") : specifier, context),
  });`;

/** Runs a TypeScript file in a Node process of its own, without a build. What it prints is piped. */
export function spawnTypeScript(file: URL, args: readonly string[]): ChildProcess {
  const hooks = `data:text/javascript,${encodeURIComponent(RESOLVE_SOURCES)}`;
  return spawn(process.execPath, ["--import", hooks, fileURLToPath(file), ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
}
