import type { Redis } from "ioredis";
import { LOOPBACK } from "../network/free-port.js";
import { withRedis } from "./with-redis.js";

/** How a slot is moved. */
export interface MoveSlotOptions {
  /** 10 by default, so that a slot of some dozen keys is seen half moved. */
  readonly keysPerBatch?: number;
  /**
   * Awaited once the slot is open on both nodes and again after each batch. Until
   * it resolves, `movedKeys` are with the new node and the others with the old one.
   */
  readonly betweenBatches?: (movedKeys: number) => Promise<void>;
}

/** A node of a cluster. */
interface Peer {
  readonly port: number;
  nodeId(): string;
}

const MIGRATE_TIMEOUT_MS = 1_000;

/**
 * Moves a slot with its keys while both nodes serve it, in the steps of
 * https://redis.io/docs/latest/commands/cluster-setslot/
 */
export async function moveSlot(
  slot: number,
  from: Peer,
  to: Peer,
  { keysPerBatch = 10, betweenBatches = async () => {} }: MoveSlotOptions = {},
): Promise<void> {
  await withRedis(to.port, (target) =>
    withRedis(from.port, async (source) => {
      // The other way round, the source would send clients to a target that turns them away.
      await target.cluster("SETSLOT", slot, "IMPORTING", from.nodeId());
      await source.cluster("SETSLOT", slot, "MIGRATING", to.nodeId());
      let movedKeys = 0;
      for (;;) {
        await betweenBatches(movedKeys);
        const moved = await moveKeys(source, slot, keysPerBatch, to.port);
        if (moved === 0) break;
        movedKeys += moved;
      }
      // First the new owner: were it to fail between the two, nobody would own the slot.
      await target.cluster("SETSLOT", slot, "NODE", to.nodeId());
      await source.cluster("SETSLOT", slot, "NODE", to.nodeId());
    }),
  );
}

async function moveKeys(source: Redis, slot: number, count: number, port: number): Promise<number> {
  // As bytes, because keys need not be texts.
  const keys = (await source.callBuffer("CLUSTER", "GETKEYSINSLOT", slot, count)) as Buffer[];
  if (keys.length === 0) return 0;
  // While the source has a key, only it changes it; a copy that an earlier attempt left is stale.
  const options = [LOOPBACK, port, "", 0, MIGRATE_TIMEOUT_MS, "REPLACE", "KEYS"];
  await source.call("MIGRATE", ...options, ...keys);
  return keys.length;
}
