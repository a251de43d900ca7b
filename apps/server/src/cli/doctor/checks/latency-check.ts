import { warning } from "./check.js";
import { nodeCheck } from "./node-check.js";

/** Every VerifySession waits for a round trip, and in one data center it takes less than a millisecond. */
const MAX_ROUND_TRIP_MS = 20;

/** Redis is near. */
export const latencyCheck = nodeCheck(
  (nodes) =>
    `${Math.max(...nodes.map(({ roundTripMs }) => roundTripMs)).toFixed(1)} ms to Redis and back`,
  ({ name, roundTripMs }) =>
    roundTripMs <= MAX_ROUND_TRIP_MS
      ? []
      : [
          warning(
            `${name} needs at least ${Math.round(roundTripMs)} ms to answer, and every call waits for it.`,
            "Bring server and Redis nearer to each other, or look for what keeps Redis busy (SLOWLOG GET).",
          ),
        ],
);
