import type { RedisNodeReport } from "@sessiond/core/redis";
import { fault, warning } from "./check.js";
import { nodeCheck } from "./node-check.js";

/** A restart of Redis finds the sessions again. */
export const persistenceCheck = nodeCheck(
  (nodes) => (nodes.every(({ isAppendOnly }) => isAppendOnly) ? "appendonly yes" : "appendonly no"),
  ({ name, isAppendOnly, isSaveFailing }: RedisNodeReport) => [
    ...(isSaveFailing
      ? [
          fault(
            `${name} cannot write to its disk, and may refuse all writes.`,
            "Look for MISCONF, or “Can't save” and “No space left”, in the log of Redis, and give its disk room.",
          ),
        ]
      : []),
    ...(isAppendOnly
      ? []
      : [
          warning(
            `${name} writes no append-only file: a restart loses every session since its last RDB file.`,
            "Set appendonly to yes, with CONFIG SET and in its configuration file.",
          ),
        ]),
  ],
  ["whether the disk of Redis survives the loss of its machine"],
);
