import type { RedisNodeReport } from "@sessiond/core/redis";
import type { StoreConfig } from "../../../config/config.js";
import type { Check, Finding } from "./check.js";

/** A check of each process of Redis that takes writes. */
export function nodeCheck(
  summarize: (nodes: readonly RedisNodeReport[]) => string,
  judge: (node: RedisNodeReport, config: StoreConfig) => readonly Finding[],
  unknown: readonly string[] = [],
): Check {
  return async ({ config: { storeConfig }, store }) => {
    if (storeConfig === undefined || storeConfig.store.kind === "sqlite") return undefined;
    const probe = await store;
    if (probe.state !== "up") return { skipped: "the store does not answer" };
    const findings = probe.nodes.flatMap((node) => judge(node, storeConfig));
    return { summary: summarize(probe.nodes), findings, unknown };
  };
}

/** The different values of all nodes. */
export function valuesOf<T>(
  nodes: readonly RedisNodeReport[],
  read: (node: RedisNodeReport) => T,
): string {
  return [...new Set(nodes.map(read))].join(", ");
}
