import { parseCount } from "./quantity.js";
import type { Setting } from "./setting.js";

/** More would only share the cores that there are. */
const MAX_WORKERS = 128;

/** How many processes serve. */
export const WORKERS_SETTING = {
  workers: {
    group: "Load",
    env: "SESSIOND_WORKERS",
    flag: "workers",
    placeholder: "COUNT",
    default: "1",
    help: "how many processes serve on the same ports, one for each core; more than 1 needs a Redis store",
    details:
      "A process uses about one core. Connections are given to the workers in turn, metrics are those of " +
      "all workers, and a worker that ends is replaced. To the store and to callers each worker is a " +
      "server of its own: every bound of this section and of [Bounds](#bounds), and every quota, holds " +
      "for each. [operations.md](operations.md#workers) says more.",
    parse: (text) => parseCount(text, { min: 1, max: MAX_WORKERS }),
  },
} as const satisfies Record<string, Setting>;
