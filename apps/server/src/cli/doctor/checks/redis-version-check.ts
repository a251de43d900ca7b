import { MIN_REDIS_MAJOR_VERSION } from "@sessiond/core/redis";
import { fault } from "./check.js";
import { nodeCheck, valuesOf } from "./node-check.js";

/** Redis has the commands that the scripts need. */
export const redisVersionCheck = nodeCheck(
  (nodes) => `Redis ${valuesOf(nodes, ({ version }) => version)}`,
  ({ name, version }) =>
    Number.parseInt(version, 10) >= MIN_REDIS_MAJOR_VERSION
      ? []
      : [
          fault(
            `${name} is version ${version}, which lacks commands that sessiond needs.`,
            `Upgrade it to ${MIN_REDIS_MAJOR_VERSION}.0 or newer.`,
          ),
        ],
);
