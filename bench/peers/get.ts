// The limit of a server in Node that reads a session from Redis: ioredis alone reads one string as large
// as a session's. Its parent says how often.
import { Redis } from "ioredis";
import { takeOrders } from "../caller.ts";

const [redisUrl = "", key = ""] = process.argv.slice(2);
const redis = new Redis(redisUrl);
takeOrders(() => redis.getBuffer(key));
