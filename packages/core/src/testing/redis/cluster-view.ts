/** How many slots every cluster has. */
export const SLOTS = 16_384;

/** What one node of a cluster believes of a node, be it itself. */
export interface ClusterMember {
  readonly id: string;
  readonly port: number;
  /** As Redis writes them: `myself`, `master`, `slave`, `fail?`, `fail`, `handshake`, … */
  readonly flags: ReadonlySet<string>;
  /** The id of the node that it copies. */
  readonly primaryId: string | undefined;
  /** Among nodes that claim the same slot, the highest is right. */
  readonly configEpoch: number;
  readonly isConnected: boolean;
  /** First and last slot of each range that it serves. */
  readonly slots: readonly (readonly [first: number, last: number])[];
}

/** Reads the reply to CLUSTER NODES. */
export function parseClusterNodes(reply: string): ClusterMember[] {
  return reply.trim().split("\n").map(parseMember);
}

function parseMember(line: string): ClusterMember {
  const [id = "", address = "", flags = "", primaryId, , , epoch, link, ...slots] = line.split(" ");
  return {
    id,
    // ip:port@busport,hostname
    port: Number(/:(\d+)/.exec(address)?.[1]),
    flags: new Set(flags.split(",")),
    primaryId: primaryId === "-" ? undefined : primaryId,
    configEpoch: Number(epoch),
    isConnected: link === "connected",
    // Slots on the move are listed once more, as [slot->-id] and [slot-<-id].
    slots: slots.filter((range) => !range.startsWith("[")).map(parseRange),
  };
}

function parseRange(range: string): [number, number] {
  const [first, last = first] = range.split("-");
  return [Number(first), Number(last)];
}

export function servesSlot({ slots }: ClusterMember, slot: number): boolean {
  return slots.some(([first, last]) => first <= slot && slot <= last);
}

export function countSlots(members: readonly ClusterMember[]): number {
  const sizes = members.flatMap(({ slots }) => slots.map(([first, last]) => last - first + 1));
  return sizes.reduce((sum, size) => sum + size, 0);
}
