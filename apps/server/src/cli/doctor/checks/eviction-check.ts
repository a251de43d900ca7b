import { SAFE_EVICTION_POLICY } from "@sessiond/core/redis";
import { fault } from "./check.js";
import { nodeCheck, valuesOf } from "./node-check.js";

/** Redis keeps every session until we remove it. */
export const evictionCheck = nodeCheck(
  (nodes) => `maxmemory-policy ${valuesOf(nodes, ({ evictionPolicy }) => evictionPolicy)}`,
  ({ name, evictionPolicy }) =>
    evictionPolicy === SAFE_EVICTION_POLICY
      ? []
      : [
          fault(
            `${name} may drop sessions in silence: its maxmemory-policy is ${evictionPolicy}.`,
            `Set maxmemory-policy to ${SAFE_EVICTION_POLICY}, with CONFIG SET and in its configuration file.`,
          ),
        ],
);
