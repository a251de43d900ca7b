import type { Cluster, Redis } from "ioredis";

/** What INFO says in one section, by name. */
export type Info = ReadonlyMap<string, string>;

/** Asks one Redis process for a section of INFO. */
export async function readInfo(redis: Redis, section: string): Promise<Info> {
  const text = await redis.info(section);
  const fields = text.matchAll(/^(\w+):(.*?)\r?$/gm);
  return new Map([...fields].map(([, name = "", value = ""]) => [name, value]));
}

/** The processes that take writes, as far as is known: the one, or a cluster's primaries. */
export function primariesOf(redis: Redis | Cluster): readonly Redis[] {
  return "nodes" in redis ? redis.nodes("master") : [redis];
}
