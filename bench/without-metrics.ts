// Loaded before a server with `--import`: the server then measures neither calls nor stores.
import { registerHooks } from "node:module";

const SUBSTITUTES = new Map([
  ["/interceptors/measure-calls.js", "export const measureCalls = () => (next) => next;"],
  ["/observability/observe-stores.js", "export const observeStores = (stores) => stores;"],
]);

const missed = new Set(SUBSTITUTES.keys());

registerHooks({
  load: (url, context, next) => {
    const path = [...SUBSTITUTES.keys()].find((end) => url.endsWith(end));
    if (path === undefined) return next(url, context);
    missed.delete(path);
    return { format: "module", shortCircuit: true, source: SUBSTITUTES.get(path) };
  },
});

// A benchmark that compares a server with itself would say that metrics cost nothing.
setTimeout(() => {
  if (missed.size > 0) throw new Error(`never loaded: ${[...missed].join(", ")}`);
}, 10_000).unref();
