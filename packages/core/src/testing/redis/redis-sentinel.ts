import { freePort, LOOPBACK, retryTakenPort } from "../network/free-port.js";
import { RedisProcess, type RestartableRedis } from "./redis-process.js";
import { findReplicationFault, findSentinelFault } from "./sentinel-health.js";
import { waitUntilWell } from "./wait-until-well.js";
import { withRedis } from "./with-redis.js";

/** How a primary, its replicas and their sentinels are started for tests. */
export interface RedisSentinelsOptions {
  /** 2 by default, so that the new primary has one as well. */
  readonly replicas?: number;
  /** 3 by default, the fewest of which one may be gone. Two must agree that the primary is. */
  readonly sentinels?: number;
  /** How long a server may be silent before it counts as gone. 1000 by default, for short tests. */
  readonly downAfterMs?: number;
  /** More arguments for all but sentinels, such as `["--appendonly", "yes"]`, but no password. */
  readonly args?: readonly string[];
}

/** A primary, its replicas and their sentinels, gone with the process that started them. */
export interface RedisSentinels extends AsyncDisposable {
  /** `redis+sentinel://127.0.0.1:port,…/mymaster` with all sentinels. */
  readonly url: string;
  /** First the one that started as the primary, then those that started as replicas. */
  readonly nodes: readonly RestartableRedis[];
  readonly sentinels: readonly RestartableRedis[];
  /** The primary, by the word of the first sentinel that answers. */
  primary(): Promise<RestartableRedis>;
  /**
   * Waits until there is one primary, the nodes that are up are its linked
   * replicas, and the sentinels that are up agree and could replace it. Nodes
   * that are killed or paused are not waited for. Throws an Error that says what
   * is amiss once `timeoutMs` have passed, 15000 by default.
   */
  waitUntilHealthy(timeoutMs?: number): Promise<void>;
  /** Ends them all and removes their files. Fine when they have ended already. */
  stop(): Promise<void>;
}

const PRIMARY_NAME = "mymaster";
const QUORUM = 2;
/** How long a failover may take, and half of the wait before another is tried. */
const FAILOVER_TIMEOUT_MS = 3_000;
const HEALTHY_TIMEOUT_MS = 15_000;
/** By default a primary waits 5 seconds for more replicas before it sends its data. */
const NODE_ARGS = ["--repl-diskless-sync-delay", "0"];
/**
 * What sentinels have no configuration for. By default they need seconds to find
 * each other, to agree and to demote a primary that returns, and once frozen they do
 * nothing for half a minute.
 */
const SENTINEL_PERIODS_MS = {
  "info-period": 500,
  "publish-period": 200,
  "ask-period": 200,
  "min-link-reconnect-period": 500,
  "tilt-period": 1_000,
};

/** Starts a real primary with replicas and sentinels, and waits until they are healthy. */
export async function startRedisSentinels(
  options: RedisSentinelsOptions = {},
): Promise<RedisSentinels> {
  const { replicas = 2, sentinels = 3, downAfterMs = 1_000, args = [] } = options;
  await using starting = new AsyncDisposableStack();
  const adopt = (redis: RedisProcess) => starting.adopt(redis, () => redis.remove("SIGKILL"));
  const first = adopt(await startNode("", args));
  const nodes = [first];
  while (nodes.length < 1 + replicas) {
    nodes.push(adopt(await startNode(`replicaof ${LOOPBACK} ${first.port}\n`, args)));
  }
  // Sentinels look for replicas as soon as they start, and then not for a while.
  await waitUntilWell(() => findReplicationFault(portsOfLive(nodes)), HEALTHY_TIMEOUT_MS);
  const watchers: RedisProcess[] = [];
  while (watchers.length < sentinels) watchers.push(adopt(await startSentinel(first, downAfterMs)));

  const waitUntilHealthy = (timeoutMs = HEALTHY_TIMEOUT_MS) =>
    waitUntilWell(
      () => findSentinelFault(PRIMARY_NAME, portsOfLive(nodes), portsOfLive(watchers)),
      timeoutMs,
    );
  await waitUntilHealthy();
  const started = starting.move();
  const stop = () => started.disposeAsync();
  return {
    url: `redis+sentinel://${watchers.map(({ port }) => `${LOOPBACK}:${port}`)}/${PRIMARY_NAME}`,
    nodes,
    sentinels: watchers,
    primary: () => findPrimary(nodes, watchers),
    waitUntilHealthy,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** Sentinels have the nodes write to `config` who replicates whom. */
function startNode(config: string, args: readonly string[]): Promise<RedisProcess> {
  return retryTakenPort(async () =>
    RedisProcess.start({ port: await freePort(), args: [...NODE_ARGS, ...args], config }),
  );
}

function startSentinel(primary: RedisProcess, downAfterMs: number): Promise<RedisProcess> {
  const config = [
    `sentinel monitor ${PRIMARY_NAME} ${LOOPBACK} ${primary.port} ${QUORUM}`,
    `sentinel down-after-milliseconds ${PRIMARY_NAME} ${downAfterMs}`,
    `sentinel failover-timeout ${PRIMARY_NAME} ${FAILOVER_TIMEOUT_MS}`,
  ].join("\n");
  return retryTakenPort(async () => {
    const port = await freePort();
    const afterStart = () => setPeriods(port);
    return RedisProcess.start({ port, args: ["--sentinel"], config, afterStart });
  });
}

async function setPeriods(port: number): Promise<void> {
  const periods = Object.entries(SENTINEL_PERIODS_MS).flat();
  await withRedis(port, (sentinel) => sentinel.call("SENTINEL", "DEBUG", ...periods));
}

async function findPrimary(
  nodes: readonly RedisProcess[],
  sentinels: readonly RedisProcess[],
): Promise<RedisProcess> {
  const port = await Promise.any(portsOfLive(sentinels).map(readPrimaryPort));
  const primary = nodes.find((node) => node.port === port);
  if (primary === undefined) throw new Error(`no node of these has port ${port}`);
  return primary;
}

async function readPrimaryPort(sentinelPort: number): Promise<number> {
  const address = await withRedis(sentinelPort, (sentinel) =>
    sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", PRIMARY_NAME),
  );
  return Number((address as [host: string, port: string])[1]);
}

function portsOfLive(processes: readonly RedisProcess[]): number[] {
  return processes.filter(({ isLive }) => isLive).map(({ port }) => port);
}
