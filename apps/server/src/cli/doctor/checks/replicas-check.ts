import type { RedisNodeReport } from "@sessiond/core/redis";
import type { StoreConfig } from "../../../config/config.js";
import { type Finding, fault, warning } from "./check.js";
import { nodeCheck } from "./node-check.js";
import { counted } from "./texts.js";

/** There are the replicas that the durability and the kind of the store need. */
export const replicasCheck = nodeCheck(
  (nodes) =>
    nodes.map(({ name, replicas }) => `${name} has ${counted(replicas, "replica")}`).join(", "),
  judge,
  ["how replicas themselves are configured, and whether sentinels agree: only primaries are asked"],
);

function judge(
  { name, isPrimary, replicas, refusesWithoutReplicas }: RedisNodeReport,
  { durability, store }: StoreConfig,
): readonly Finding[] {
  if (!isPrimary) {
    return [
      fault(
        `${name} is a replica, and refuses writes.`,
        "Name the primary in SESSIOND_STORE, or sentinels that know it.",
      ),
    ];
  }
  if (replicas === 0) {
    if (durability === "replicated") {
      return [
        fault(
          `${name} has no replica, so with SESSIOND_DURABILITY=replicated every change fails.`,
          "Start a replica, or set SESSIOND_DURABILITY to auto.",
        ),
      ];
    }
    if (store.kind === "redis") return [];
    return [
      warning(
        `${name} has no replica, so nothing can take over from it.`,
        "Start a replica for it.",
      ),
    ];
  }
  if (refusesWithoutReplicas) return [];
  return [
    warning(
      `${name} takes changes also while it is cut off from its replicas, and a failover loses them.`,
      "Set min-replicas-to-write to 1, with CONFIG SET and in its configuration file.",
    ),
  ];
}
