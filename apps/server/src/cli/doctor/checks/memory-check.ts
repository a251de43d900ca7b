import type { RedisNodeReport } from "@sessiond/core/redis";
import { type Check, type Finding, fault, warning } from "./check.js";
import { formatBytes } from "./texts.js";

/** A session with 100 bytes of data in Redis: docs/operations.md, "Size". */
const USUAL_SESSION_BYTES = 905;
/** With fewer, what Redis needs for itself would count as theirs. */
const MIN_MEASURED_SESSIONS = 1_000;
const ALMOST_FULL = 0.8;
/** New sessions are refused. */
const FULL = 0.99;

/** Redis has a limit of memory, and room below it. */
export const memoryCheck: Check = async ({ config: { storeConfig }, store }) => {
  if (storeConfig === undefined || storeConfig.store.kind === "sqlite") return undefined;
  const probe = await store;
  if (probe.state !== "up") return { skipped: "the store does not answer" };
  const sessions = "error" in probe.content ? 0 : probe.content.sessions;
  return { summary: summarize(probe.nodes, sessions), findings: probe.nodes.flatMap(judge) };
};

function summarize(nodes: readonly RedisNodeReport[], sessions: number): string {
  const sum = (read: (node: RedisNodeReport) => number) =>
    nodes.reduce((total, node) => total + read(node), 0);
  const used = sum(({ usedMemoryBytes }) => usedMemoryBytes);
  const isMeasured = sessions >= MIN_MEASURED_SESSIONS;
  const perSession = isMeasured
    ? Math.round((used - sum(({ startupMemoryBytes }) => startupMemoryBytes)) / sessions)
    : USUAL_SESSION_BYTES;
  const each = `${perSession} bytes a session${isMeasured ? "" : " usually"}`;
  if (nodes.some(({ maxMemoryBytes }) => maxMemoryBytes === 0))
    return `${formatBytes(used)}, ${each}`;
  const most = sum(({ maxMemoryBytes }) => maxMemoryBytes);
  const more = Math.max(0, Math.floor((most - used) / perSession));
  return `${formatBytes(used)} of ${formatBytes(most)}, ${each}, room for about ${more} more`;
}

function judge({ name, maxMemoryBytes, usedMemoryBytes }: RedisNodeReport): readonly Finding[] {
  if (maxMemoryBytes === 0) {
    return [
      warning(
        `${name} has no limit of memory, so the kernel may kill it.`,
        "Set maxmemory below the machine's memory; docs/operations.md, “Size”, says how much sessions need.",
      ),
    ];
  }
  const share = usedMemoryBytes / maxMemoryBytes;
  if (share < ALMOST_FULL) return [];
  const problem = `${name} uses ${formatBytes(usedMemoryBytes)} of its ${formatBytes(maxMemoryBytes)} of memory`;
  return [
    share >= FULL
      ? fault(`${problem}, and refuses new sessions.`, MORE_MEMORY)
      : warning(`${problem}, and refuses new sessions when it is full.`, MORE_MEMORY),
  ];
}

const MORE_MEMORY =
  "Raise maxmemory; docs/operations.md, “Redis is full”, says how to find what grew.";
