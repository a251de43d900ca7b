import type { Cluster, Redis } from "ioredis";

/** The fields of one section of INFO, by name. */
export type Info = ReadonlyMap<string, string>;

export async function readInfo(redis: Redis, section: string): Promise<Info> {
  const text = await redis.info(section);
  const fields = text.matchAll(/^(\w+):(.*?)\r?$/gm);
  return new Map([...fields].map(([, name = "", value = ""]) => [name, value]));
}

/** The known processes that take writes: one, or a cluster's primaries. */
export function primariesOf(redis: Redis | Cluster): readonly Redis[] {
  return "nodes" in redis ? redis.nodes("master") : [redis];
}
