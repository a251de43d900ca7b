import type { Redis } from "ioredis";

/** What a server says of its place in replication. */
export type ReplicationRole =
  | { readonly kind: "primary"; readonly replicaPorts: readonly number[] }
  | { readonly kind: "replica"; readonly primaryPort: number; readonly isLinked: boolean };

/** Asks a server for its ROLE. */
export async function readRole(redis: Redis): Promise<ReplicationRole> {
  const reply = (await redis.role()) as unknown[];
  if (reply[0] === "slave") {
    return { kind: "replica", primaryPort: Number(reply[2]), isLinked: reply[3] === "connected" };
  }
  // It lists only the replicas that have caught up.
  const replicas = reply[2] as readonly [host: string, port: string, offset: string][];
  return { kind: "primary", replicaPorts: replicas.map(([, port]) => Number(port)) };
}

/** Names a replica that is not linked to a primary among these servers, if there is one. */
export function findUnlinkedReplica(
  roles: ReadonlyMap<number, ReplicationRole>,
): string | undefined {
  for (const [port, role] of roles) {
    if (role.kind === "primary") continue;
    const primary = roles.get(role.primaryPort);
    const isKnown = primary?.kind === "primary" && primary.replicaPorts.includes(port);
    if (!role.isLinked || !isKnown) return `${port} is not linked to ${role.primaryPort}`;
  }
  return undefined;
}
