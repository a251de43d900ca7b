// Loaded before a server with `--import`: the server then refuses no call because its event loop is
// late. On a shared machine that happens with any number of calls.
import cluster from "node:cluster";
import { registerHooks } from "node:module";

const SOURCE = "export const sampleLoopDelay = () => ({ [Symbol.dispose]() {} });";
let isLoaded = false;

registerHooks({
  load: (url, context, next) => {
    if (!url.endsWith("/admission/loop-delay.js")) return next(url, context);
    isLoaded = true;
    return { format: "module", shortCircuit: true, source: SOURCE };
  },
});

setTimeout(() => {
  // The first process of several serves nothing itself.
  const hasWorkers = Object.keys(cluster.workers ?? {}).length > 0;
  if (!isLoaded && !hasWorkers) throw new Error("never loaded: loop-delay.js");
}, 10_000).unref();
