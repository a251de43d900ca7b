import { findUnlinkedReplica, type ReplicationRole, readRole } from "./replication-role.js";
import { withRedis } from "./with-redis.js";

/** What a sentinel says of one server, by the names that Redis gives. */
type Watched = Readonly<Record<string, string>>;

/** Says what keeps the nodes at these ports from being one primary with linked replicas. */
export async function findReplicationFault(ports: readonly number[]): Promise<string | undefined> {
  const roles = await readRoles(ports);
  const primaries = portsOfPrimaries(roles);
  if (primaries.length !== 1) return `there are ${primaries.length} primaries: ${primaries}`;
  return findUnlinkedReplica(roles);
}

/**
 * Says what keeps the sentinels at these ports from agreeing on the primary among
 * these nodes, and from replacing it with any of the others, or nothing.
 */
export async function findSentinelFault(
  primaryName: string,
  ports: readonly number[],
  sentinelPorts: readonly number[],
): Promise<string | undefined> {
  const fault = await findReplicationFault(ports);
  if (fault !== undefined) return fault;
  if (sentinelPorts.length === 0) return "no sentinel is up";
  const [primaryPort] = portsOfPrimaries(await readRoles(ports));
  for (const port of sentinelPorts) {
    const { primary, replicas, usable } = await readReport(port, primaryName);
    if (Number(primary["port"]) !== primaryPort) return `${port} believes in ${primary["port"]}`;
    if (primary["flags"] !== "master") return `${port} sees the primary as ${primary["flags"]}`;
    if (usable < sentinelPorts.length) return `${port} sees only ${usable} sentinels`;
    const ready = replicas.filter(isReady).map((replica) => Number(replica["port"]));
    const other = ports.find((node) => node !== primaryPort && !ready.includes(node));
    if (other !== undefined) return `${port} does not see that ${other} could take over`;
  }
  return undefined;
}

async function readReport(port: number, primaryName: string) {
  return withRedis(port, async (sentinel) => {
    const ask = (question: string) => sentinel.call("SENTINEL", question, primaryName);
    const replicas = (await ask("REPLICAS")) as readonly string[][];
    return {
      primary: toRecord((await ask("MASTER")) as string[]),
      replicas: replicas.map(toRecord),
      // "OK 3 usable Sentinels. …"; an error if there are too few.
      usable: Number(/\d+/.exec(String(await ask("CKQUORUM")))?.[0]),
    };
  });
}

/** Whatever else a replica is, such as `s_down`, stands in the flags as well. */
function isReady(replica: Watched): boolean {
  return replica["flags"] === "slave" && replica["master-link-status"] === "ok";
}

function toRecord(reply: readonly string[]): Watched {
  const pairs = reply.map((name, i) => [name, reply[i + 1] ?? ""] as const);
  return Object.fromEntries(pairs.filter((_, i) => i % 2 === 0));
}

async function readRoles(ports: readonly number[]): Promise<Map<number, ReplicationRole>> {
  const roles = ports.map(async (port) => [port, await withRedis(port, readRole)] as const);
  return new Map(await Promise.all(roles));
}

function portsOfPrimaries(roles: ReadonlyMap<number, ReplicationRole>): number[] {
  return [...roles].filter(([, role]) => role.kind === "primary").map(([port]) => port);
}
