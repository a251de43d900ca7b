// Copies the sessions of connect-redis to the drop-in store. The old cookies stay valid.
import { createSessionClient } from "@sessiond/client";
import { RedisStore } from "connect-redis";
import { createClient } from "redis";
import { createDropInStore } from "./drop-in-store.ts";

const client = createSessionClient({
  baseUrl: process.env["SESSIOND_URL"] ?? "http://127.0.0.1:50051",
  token: process.env["SESSIOND_TOKEN"] ?? "",
});
const redis = createClient({ url: process.env["REDIS_URL"] ?? "redis://127.0.0.1:6379" });
redis.on("error", (error) => console.error(`Redis: ${error.message}`));
await redis.connect();

const from = new RedisStore({ client: redis });
const to = createDropInStore(client);
let copied = 0;
for (const sid of (await from.ids()) as string[]) {
  const session = await from.get(sid);
  // It may have ended meanwhile.
  if (session === null) continue;
  await to.set(sid, session);
  copied++;
}
console.log(`copied ${copied} sessions`);

redis.destroy();
client.close();
