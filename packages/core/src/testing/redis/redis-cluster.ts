import { freePort, LOOPBACK, retryTakenPort } from "../network/free-port.js";
import { findClusterFault } from "./cluster-health.js";
import { type ClusterMember, parseClusterNodes, SLOTS, servesSlot } from "./cluster-view.js";
import { type MoveSlotOptions, moveSlot } from "./move-slot.js";
import { RedisProcess, type RestartableRedis } from "./redis-process.js";
import { waitUntilWell } from "./wait-until-well.js";
import { withRedis } from "./with-redis.js";

/** How a Redis Cluster for tests is started. */
export interface RedisClusterOptions {
  /** 3 by default: with fewer, the others can never agree that one is gone. */
  readonly primaries?: number;
  /** 1 by default, which is enough to take over. */
  readonly replicasPerPrimary?: number;
  /** How long a node may be silent before it counts as gone. 1000 by default, for short tests. */
  readonly nodeTimeoutMs?: number;
  /** More arguments for every node, such as `["--appendonly", "yes"]`, but no password. */
  readonly args?: readonly string[];
}

/** One node of a cluster, and what can befall it. */
export interface RedisClusterNode extends RestartableRedis {
  /** Its id in the cluster, which outlives restarts. */
  nodeId(): string;
}

/** A Redis Cluster of one's own, on loopback, gone with the process that started it. */
export interface RedisCluster extends AsyncDisposable {
  /** `redis+cluster://127.0.0.1:port,…` with all nodes. */
  readonly url: string;
  /** First those that started as primaries, then those that started as replicas. */
  readonly nodes: readonly RedisClusterNode[];
  /** The slot of a key, by its hash tag if it has one. */
  slotOf(key: string): Promise<number>;
  /** The node that serves a key's slot now. Throws an Error if none that is up does. */
  primaryOf(key: string): Promise<RedisClusterNode>;
  /**
   * Waits until the nodes that are up serve all slots among themselves, agree
   * who serves which, and have all their replicas linked. Nodes that are killed
   * or paused are not waited for. Throws an Error that says what is amiss once
   * `timeoutMs` have passed, 15000 by default.
   */
  waitUntilHealthy(timeoutMs?: number): Promise<void>;
  /**
   * Gives a slot with its keys to another primary, live. A move that fails leaves
   * the slot open on both nodes, as it does in production; moving it again goes on.
   */
  moveSlot(slot: number, toNode: RedisClusterNode, options?: MoveSlotOptions): Promise<void>;
  /** Ends all nodes and removes their files. Fine when they have ended already. */
  stop(): Promise<void>;
}

type ClusterProcess = RedisProcess & RedisClusterNode & { readonly busPort: number };

const HEALTHY_TIMEOUT_MS = 15_000;

/**
 * Starts a real Redis Cluster and waits until it is healthy. The nodes persist
 * only what they know of each other, unless `args` ask for more.
 */
export async function startRedisCluster(options: RedisClusterOptions = {}): Promise<RedisCluster> {
  const { primaries = 3, replicasPerPrimary = 1, nodeTimeoutMs = 1_000, args = [] } = options;
  await using starting = new AsyncDisposableStack();
  const nodes: ClusterProcess[] = [];
  while (nodes.length < primaries * (1 + replicasPerPrimary)) {
    const { redis, busPort } = await startNode(nodeTimeoutMs, args);
    starting.defer(() => redis.remove("SIGKILL"));
    const id = await withRedis(redis.port, (node) => node.cluster("MYID"));
    nodes.push(Object.assign(redis, { busPort, nodeId: () => id }));
  }
  await formCluster(nodes.slice(0, primaries), nodes.slice(primaries));
  const cluster = describeCluster(nodes);
  await cluster.waitUntilHealthy();
  const started = starting.move();
  const stop = () => started.disposeAsync();
  return { ...cluster, stop, [Symbol.asyncDispose]: stop };
}

function describeCluster(nodes: readonly ClusterProcess[]) {
  const livePorts = () => nodes.filter(({ isLive }) => isLive).map(({ port }) => port);
  const slotOf = async (key: string) => {
    const [port] = livePorts();
    if (port === undefined) throw new Error("no node is up");
    return withRedis(port, (redis) => redis.cluster("KEYSLOT", key));
  };
  return {
    url: `redis+cluster://${nodes.map(({ port }) => `${LOOPBACK}:${port}`).join(",")}`,
    nodes,
    slotOf,
    primaryOf: async (key: string) => findPrimary(nodes, await slotOf(key)),
    waitUntilHealthy: (timeoutMs = HEALTHY_TIMEOUT_MS) =>
      waitUntilWell(() => findClusterFault(livePorts()), timeoutMs),
    moveSlot: async (slot: number, toNode: RedisClusterNode, options?: MoveSlotOptions) => {
      const from = await findPrimary(nodes, slot);
      if (from.port !== toNode.port) await moveSlot(slot, from, toNode, options);
    },
  };
}

async function startNode(nodeTimeoutMs: number, args: readonly string[]) {
  return retryTakenPort(async () => {
    const [port, busPort] = [await freePort(), await freePort()];
    const clusterArgs = [
      ...["--cluster-enabled", "yes", "--cluster-announce-ip", LOOPBACK],
      ...["--cluster-port", `${busPort}`, "--cluster-node-timeout", `${nodeTimeoutMs}`],
      // By default a primary waits 5 seconds for more replicas before it sends its data.
      ...["--repl-diskless-sync-delay", "0"],
    ];
    const redis = await RedisProcess.start({ port, args: [...clusterArgs, ...args] });
    return { redis, busPort };
  });
}

async function formCluster(
  primaries: readonly ClusterProcess[],
  replicas: readonly ClusterProcess[],
): Promise<void> {
  const nodes = [...primaries, ...replicas];
  for (const [i, { port }] of nodes.entries()) {
    await withRedis(port, async (redis) => {
      // Distinct epochs spare the nodes settling theirs. Once others know a node it is too late.
      await redis.cluster("SET-CONFIG-EPOCH", i + 1);
      if (i < primaries.length) {
        const [first, end] = [i, i + 1].map((n) => Math.ceil((n * SLOTS) / primaries.length));
        await redis.cluster("ADDSLOTSRANGE", Number(first), Number(end) - 1);
      }
      // Gossip would introduce them all to each other in time, but that takes seconds.
      for (const other of nodes.slice(0, i)) {
        await redis.cluster("MEET", LOOPBACK, other.port, other.busPort);
      }
    });
  }
  await waitUntilWell(() => findStranger(nodes), HEALTHY_TIMEOUT_MS);
  for (const [i, { port }] of replicas.entries()) {
    const primary = primaries[i % primaries.length];
    if (primary === undefined) throw new Error("replicas need a primary");
    await withRedis(port, (redis) => redis.cluster("REPLICATE", primary.nodeId()));
  }
}

/** Names a node that does not know all the others yet. */
async function findStranger(nodes: readonly ClusterProcess[]): Promise<string | undefined> {
  for (const { port } of nodes) {
    const members = await readMembers(port);
    const known = new Set(members.filter((m) => !m.flags.has("handshake")).map(({ id }) => id));
    if (nodes.some((node) => !known.has(node.nodeId()))) return `${port} does not know all others`;
  }
  return undefined;
}

/** Asks the nodes themselves: others may still believe in a primary that is gone. */
async function findPrimary(
  nodes: readonly ClusterProcess[],
  slot: number,
): Promise<ClusterProcess> {
  const answers = await Promise.allSettled(
    nodes
      .filter(({ isLive }) => isLive)
      .map(async (node) => ({ node, self: await readSelf(node) })),
  );
  const claims = answers
    .flatMap((answer) => (answer.status === "fulfilled" ? [answer.value] : []))
    .filter(({ self }) => self.flags.has("master") && servesSlot(self, slot))
    // A primary that was away may not know yet that another took over.
    .sort((a, b) => b.self.configEpoch - a.self.configEpoch);
  const [best] = claims;
  if (best === undefined) throw new Error(`no node that is up serves slot ${slot}`);
  return best.node;
}

async function readSelf({ port }: ClusterProcess): Promise<ClusterMember> {
  const self = (await readMembers(port)).find(({ flags }) => flags.has("myself"));
  if (self === undefined) throw new Error(`${port} does not list itself`);
  return self;
}

function readMembers(port: number): Promise<ClusterMember[]> {
  return withRedis(port, async (redis) => parseClusterNodes(String(await redis.cluster("NODES"))));
}
