// The limit of a server in Node that reads a session from Redis: ioredis alone reads four fields as
// large as a session's. Its parent says how often.
import { Redis } from "ioredis";
import type { Bill, Order } from "../caller.ts";

const [redisUrl = "", key = "", ...fields] = process.argv.slice(2);
const redis = new Redis(redisUrl);

process.on("message", async (order: Order) => {
  const latenciesMs: number[] = [];
  const startMs = performance.now();
  let next = 0;
  const work = async () => {
    while (next < order.calls) {
      const dueMs = startMs + (order.intervalMs ?? 0) * next++;
      const waitMs = dueMs - performance.now();
      if (order.intervalMs !== undefined && waitMs > 0) {
        await new Promise((resolve) => setTimeout(resolve, waitMs));
      }
      const sentMs = performance.now();
      const values = await redis.hmget(key, ...fields);
      if (values.includes(null)) throw new Error("the session is not there");
      if (order.intervalMs !== undefined) latenciesMs.push(performance.now() - sentMs);
    }
  };
  await Promise.all(Array.from({ length: order.concurrent }, work));
  const seconds = (performance.now() - startMs) / 1000;
  process.send?.({ seconds, latenciesMs } satisfies Bill);
});
process.send?.("ready");
