import { type ClusterMember, countSlots, parseClusterNodes, SLOTS } from "./cluster-view.js";
import { findUnlinkedReplica, type ReplicationRole, readRole } from "./replication-role.js";
import { withRedis } from "./with-redis.js";

/** What one node says of the cluster and of itself. */
interface Report {
  readonly port: number;
  readonly isServing: boolean;
  readonly members: readonly ClusterMember[];
  readonly role: ReplicationRole;
}

/**
 * Says what keeps the nodes at these ports from being a whole cluster by
 * themselves, or nothing. Nodes elsewhere may be gone as long as no slot is theirs.
 */
export async function findClusterFault(ports: readonly number[]): Promise<string | undefined> {
  const reports = await Promise.all(ports.map(readReport));
  for (const { port, isServing, members } of reports) {
    if (!isServing) return `${port} does not serve`;
    const lost = ports.find((other) => !members.some((member) => isWell(member, other)));
    if (lost !== undefined) return `${port} has not reached ${lost}`;
  }
  return (
    findDisagreement(reports, ports) ??
    findUnlinkedReplica(new Map(reports.map(({ port, role }) => [port, role])))
  );
}

async function readReport(port: number): Promise<Report> {
  return withRedis(port, async (redis) => ({
    port,
    isServing: (await redis.cluster("INFO")).includes("cluster_state:ok"),
    members: parseClusterNodes(String(await redis.cluster("NODES"))),
    role: await readRole(redis),
  }));
}

function isWell({ port, flags, isConnected }: ClusterMember, expectedPort: number): boolean {
  const isDoubted = ["fail?", "fail", "handshake"].some((flag) => flags.has(flag));
  return port === expectedPort && isConnected && !isDoubted;
}

function findDisagreement(
  reports: readonly Report[],
  ports: readonly number[],
): string | undefined {
  const [first, ...others] = reports.map(({ port, members }) => {
    const present = members.filter((member) => ports.includes(member.port));
    return { port, slots: countSlots(present), layout: describeLayout(present) };
  });
  if (first === undefined) return "no node is up";
  if (first.slots !== SLOTS) return `nodes that are up serve ${first.slots} of ${SLOTS} slots`;
  const other = others.find(({ layout }) => layout !== first.layout);
  return other && `${other.port} and ${first.port} see different layouts`;
}

/** Equal for two nodes that agree who copies whom and who serves which slots. */
function describeLayout(members: readonly ClusterMember[]): string {
  const lines = members.map(({ id, primaryId, slots }) => `${id} ${primaryId} ${slots.join(" ")}`);
  return lines.sort().join("\n");
}
